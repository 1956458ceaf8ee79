"""Convert the units of the ControlNet extension in `alwayson_scripts` to controls of an order."""

from collections.abc import Mapping
from typing import Any

from pochade.errors import InvalidRequest
from pochade.images.preprocessors import find_preprocessor
from pochade.jobs.catalogue import Catalogue
from pochade.jobs.job_request import JobControl
from pochade.request_options import find_resize_mode
from pochade.server.dialects.a1111.scripts import CONTROLNET, arguments
from pochade.server.middleware import ErrorReply
from pochade.server.uploads import Inputs

NONE = (None, "", "None", "none")
LATENT_RESIZE = ("3", "just resize (latent upscale)")
"""The resize mode of img2img that resizes latents; units do not have it."""

BALANCED = ("", "none", "0", "balanced")
PASSES = {
    **dict.fromkeys(("", "none", "both", "0"), "both"),
    **dict.fromkeys(("low res only", "low", "1"), "first"),
    **dict.fromkeys(("high res only", "high", "2"), "second"),
}
"""Values of `hr_option`, including the numbers and constant names of Forge."""

NUMBERS = (("weight", "strength", 1.0), ("guidance_start", "start", 0.0), ("guidance_end", "end", 1.0))
ALIASES = {"guidance": "guidance_end", "lowvram": "low_vram", "input_image": "image", "mask_image": "mask"}
"""Older names of fields, and Forge's."""

THRESHOLDS = (1.0, 255.0), (100.0, 200.0)
"""Thresholds of canny: the range that the extension accepts, and its defaults for other values."""

UNSET = (64.0, 64.0), 512
"""Thresholds and resolution that older clients send with every unit; treated as not set."""

RESOLUTIONS = 64, 2048
MODULES = {"inverted": "invert", "tile_resample": "tile", "scribble_xdog": "scribble"}
"""Other names of supported preprocessors."""

REFUSED: Mapping[str, tuple[Any, ...]] = {
    "effective_region_mask": (None, ""),
    "ipadapter_input": (None, []),
    "advanced_weighting": (None, []),
    "batch_images": (None, "", []),
    "batch_image_files": (None, "", []),
    "batch_image_dir": (None, ""),
    "batch_mask_dir": (None, ""),
    "batch_input_gallery": (None, []),
    "batch_mask_gallery": (None, []),
    "animatediff_batch": (None, False),
    "batch_modifiers": (None, []),
    "batch_keyframe_idx": (None, "", []),
    "image_fg": (None, ""),
    "mask_image_fg": (None, ""),
    "input_mode": (None, "", "simple", 0),
    "loopback": (None, False),
    "guessmode": (None, False, 0),
    "use_preview_as_input": (None, False),
    "union_control_type": (None, "", "Unknown", "All"),
}
"""Unsupported fields that would change the picture, and the values that have no effect."""

IGNORABLE: Mapping[str, str] = {
    "low_vram": "memory; the picture is the same",
    "is_ui": "whether the web UI sent it",
    "save_detected_map": "the preprocessor's result is never returned with the pictures",
    "output_dir": "a folder on the server; clients cannot choose one",
    "generated_image": "displayed by the web UI only",
    "pulid_mode": "used by the PuLID preprocessors only, which are refused",
}


def controls(
    scripts: Mapping[str, Any] | None,
    catalogue: Catalogue,
    inputs: Inputs,
    first_image: str | None,
    *,
    part_only: bool = False,
) -> tuple[list[JobControl], list[str]]:
    """Return the enabled units as controls of an order, and the names of unknown fields.

    first_image: used for units without a picture. part_only: only the masked area is drawn.
    Raises ErrorReply (422) for an unsupported unit.
    """
    found, unknown = [], list[str]()
    for name, script in (scripts or {}).items():
        if name.strip().lower() != CONTROLNET:
            continue
        units = arguments(script)
        if units is None:
            raise _refused('must be a list: send {"args": [unit, ...]}')
        for unit in units:
            if unit is None or unit in ("", {}):
                continue
            if not isinstance(unit, Mapping):
                raise _refused("is not an object with fields")
            unit = _without_aliases(unit)
            if not unit.keys() & KNOWN:
                raise _refused(
                    f"has no field of a ControlNet unit; its first field is '{next(iter(unit))[:100]}'"
                )
            if not is_on(unit):
                continue
            _check(unit, part_only)
            found.append(_control(unit, catalogue, inputs, first_image))
            unknown += [f"controlnet.{field}" for field in unit if field not in KNOWN]
    return found, unknown


def is_on(unit: Mapping[str, Any]) -> bool:
    """Return whether a unit is enabled; without `enabled`, if it has a model, preprocessor or picture."""
    enabled = unit.get("enabled")
    if enabled is None:
        return any(unit.get(each) not in NONE for each in ("model", "module", "image"))
    return _is_true(enabled)


def _is_true(value: Any) -> bool:
    """Convert a boolean that may be sent as text or as a number."""
    return value.strip().lower() in ("true", "1", "yes", "on") if isinstance(value, str) else bool(value)


def _normalized(value: Any) -> str:
    """Normalize the name of an enum member: "HiResFixOption.LOW_RES_ONLY" becomes "low res only"."""
    plain = f"{value:g}" if isinstance(value, float) else str(value)
    return plain.rpartition(".")[2].strip().lower().replace("_", " ")


def _without_aliases(unit: Mapping[str, Any]) -> dict[str, Any]:
    """Replace aliases of fields. Raises ErrorReply if two names of a field have different values."""
    found: dict[str, Any] = {}
    for field, value in unit.items():
        name = ALIASES.get(field, field)
        previous = found.get(name)
        if value not in (None, "") and previous not in (None, "") and previous != value:
            raise _refused(f"has {name} twice, as '{field[:100]}' too; leave one out")
        if previous in (None, ""):
            found[name] = value
    return found


def _check(unit: Mapping[str, Any], part_only: bool) -> None:
    if unit.get("model") in NONE:
        module = unit.get("module")
        what = "" if module in NONE else f" (its module is '{str(module)[:100]}')"
        raise _refused(f"is enabled but has no model{what}; send model, or disable it with enabled: false")
    if _normalized(unit.get("control_mode")) not in BALANCED or unit.get("mask") not in (None, ""):
        why = "masks and modes other than Balanced are not supported; omit mask and control_mode"
        raise ErrorReply(422, "invalid", f"a ControlNet unit: {why}", "alwayson_scripts")
    for name, nothing in REFUSED.items():
        value = unit.get(name)
        if not any(value == each and type(value) is type(each) for each in nothing):
            raise _refused(f"has {name}, which is not supported; omit it")
    cropped = unit.get("inpaint_crop_input_image")
    if part_only and cropped not in (None, "") and not _is_true(cropped):
        raise _refused(
            "has inpaint_crop_input_image: false; with inpaint_full_res only the part of its picture"
            " inside the mask is used; omit this field"
        )


def _control(
    unit: Mapping[str, Any], catalogue: Catalogue, inputs: Inputs, first_image: str | None
) -> JobControl:
    image = _image(unit.get("image"), inputs)
    image = first_image if image is None else image
    if image is None:
        raise _refused("has no image")
    model = str(unit["model"]).partition(" [")[0]
    catalogue.controlnet(model)
    numbers: dict[str, Any] = {key: _number(unit, field, default) for field, key, default in NUMBERS}
    module = module_of(unit.get("module"))
    option = unit.get("hr_option")
    passes = PASSES.get(_normalized(option))
    if passes is None:
        raise _refused(f"has hr_option '{str(option)[:100]}'; one of: Both, Low res only, High res only")
    return JobControl(
        image=inputs.add(image, "the image of a ControlNet unit"),
        model=model,
        **numbers,
        preprocessor=module,
        resize_mode=_resize_mode(unit.get("resize_mode")),
        passes=passes,
        resolution=_resolution(unit, module),
        thresholds=thresholds_of(unit, module),
    )


def _resize_mode(given: Any) -> str:
    """Convert a name or number; the default is "crop". Raises ErrorReply (422) for an unknown one."""
    if given is None or given == "":
        return "crop"
    plain = f"{given:g}" if isinstance(given, float) else given
    if str(plain).strip().lower() in LATENT_RESIZE:
        raise _refused(
            f"has resize_mode '{str(given)[:100]}', which resizes latents and is not supported; use 0, 1 or 2"
        )
    try:
        return find_resize_mode(plain)
    except InvalidRequest as unknown:
        raise ErrorReply(422, "invalid", f"a ControlNet unit: {unknown}", "alwayson_scripts") from unknown


def _image(image: Any, inputs: Inputs) -> str | None:
    """Return the picture of a unit, which may be an object or a pair with a mask.

    Raises ErrorReply for a mask that is not all black; the web UI always sends a mask.
    """
    mask = None
    if isinstance(image, list):
        if len(image) > 2 or (len(image) == 2 and isinstance(image[1], Mapping)):
            raise _refused(f"has {len(image)} images; only one is supported")
        image, mask = (*image, None, None)[:2]
    if isinstance(image, Mapping):
        image, mask = image.get("image"), image.get("mask") if mask is None else mask
    if mask not in (None, "") and not (isinstance(mask, str) and _is_black(mask, inputs)):
        raise _refused("has a mask, which is not supported; send only the image")
    if image in (None, ""):
        return None
    if not isinstance(image, str):
        raise _refused("has an image that is not base64 text")
    return image


def _is_black(mask: str, inputs: Inputs) -> bool:
    """Return whether a mask is all black. Raises InvalidRequest if it is not a picture or too large."""
    from pochade.images.decode import read_picture
    from pochade.server.uploads import content_of

    content = content_of(mask, "the mask of a ControlNet unit")
    inputs.check(content)
    return read_picture(content).convert("L").getextrema() == (0, 0)


def module_of(given: Any) -> str:
    """Return Pochade's name of a preprocessor.

    The extension appends notes: "invert (from white bg & black line)".
    """
    if given in NONE:
        return "none"
    plain = str(given).partition(" (")[0].strip().lower()
    try:
        return find_preprocessor(MODULES.get(plain, plain))
    except InvalidRequest as unknown:
        raise ErrorReply(422, "invalid", f"a ControlNet unit: {unknown}", "alwayson_scripts") from unknown


def _resolution(unit: Mapping[str, Any], module: str) -> int | None:
    """Return the preprocessor's resolution. None: that of the generated picture, as with "pixel perfect"."""
    given = int(_number(unit, "processor_res", -1.0))
    if module == "none" or _is_true(unit.get("pixel_perfect")) or given == UNSET[1]:
        return None
    return given if RESOLUTIONS[0] <= given <= RESOLUTIONS[1] else None


def thresholds_of(unit: Mapping[str, Any], module: str) -> tuple[float, float] | None:
    """Return the thresholds of canny, the only module with thresholds. Invalid ones get A1111's defaults."""
    given = [_number(unit, f"threshold_{letter}", -1.0) for letter in "ab"]
    (low, high), defaults = THRESHOLDS
    if module != "canny" or tuple(given) == UNSET[0] or all(not low <= each <= high for each in given):
        return None
    a, b = (each if low <= each <= high else default for each, default in zip(given, defaults, strict=True))
    return a, b


def _number(unit: Mapping[str, Any], name: str, default: float) -> float:
    value = unit.get(name)
    if value is None or value == "":
        return default
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if number != number or abs(number) == float("inf"):
        why = f"ControlNet weight and guidance values must be numbers: {name} is {str(value)[:100]!r}"
        raise ErrorReply(422, "invalid", why, "alwayson_scripts")
    return number


def _refused(why: str) -> ErrorReply:
    return ErrorReply(422, "invalid", f"a ControlNet unit {why}", "alwayson_scripts")


SUPPORTED = (
    "enabled", "module", "model", "image", "weight", "resize_mode", "processor_res", "threshold_a",
    "threshold_b", "guidance_start", "guidance_end", "pixel_perfect", "hr_option", "control_mode",
    "inpaint_crop_input_image",
)  # fmt: skip
KNOWN = frozenset((*SUPPORTED, "mask", *REFUSED, *IGNORABLE))
