"""What clients of A1111's web UI send; and what it means in our words.

Unknown fields are ignored. Where the original would do something that Pochade cannot, the request is refused,
rather than drawn differently.
"""

import io
import secrets
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from pochade.diffusion.samplers import UNIPC, find_sampler
from pochade.diffusion.schedule import AUTOMATIC, find_schedule, split_sampler_name
from pochade.errors import InvalidRequest
from pochade.jobs.catalogue import Catalogue
from pochade.jobs.orders import IMG2IMG, INPAINT, TXT2IMG, Order
from pochade.prompts.comments import without_comments
from pochade.request import find_emphasis, find_rng
from pochade.server.bodies import Body
from pochade.server.guard import Trouble
from pochade.server.handing_in import Asked
from pochade.server.sent import Inputs
from pochade.ways import find_resize_mode

NAMED = {"randn_source": ("rng", find_rng), "emphasis": ("emphasis", find_emphasis)}
"""Options there -> the field of a Request, and what finds its value."""

FILLS = ("surroundings", "original", "noise", "nothing")
LATENT = {
    "latent (antialiased)": "Latent",
    "latent (bicubic antialiased)": "Latent (bicubic)",
    "latent (nearest-exact)": "Latent (nearest)",
    "none": "Lanczos",
}
"""Upscalers that others have, and ours that come nearest."""
NONE = (None, "", "None", "none")
BALANCED = (None, "", 0, "Balanced")
SIDE = 8
LARGEST_SEED = 2**63 - 1


class DrawBody(Body):
    prompt: str | None = ""
    negative_prompt: str | None = ""
    styles: list[str] | None = None
    seed: int | None = Field(-1, le=LARGEST_SEED)
    subseed: int | None = Field(-1, le=LARGEST_SEED)
    subseed_strength: float | None = Field(0, ge=0, le=1)
    seed_resize_from_h: int | None = -1
    seed_resize_from_w: int | None = -1
    sampler_name: str | None = None
    sampler_index: str | None = "Euler"
    scheduler: str | None = None
    batch_size: int | None = Field(1, ge=1)
    n_iter: int | None = Field(1, ge=1)
    steps: int | None = Field(50, ge=1)
    cfg_scale: float | None = Field(7.0, ge=0, le=100)
    width: int | None = Field(512, ge=1, le=16384)
    height: int | None = Field(512, ge=1, le=16384)
    restore_faces: bool | None = None
    tiling: bool | None = None
    eta: float | None = None
    denoising_strength: float | None = Field(0.75, ge=0, le=1)
    override_settings: dict[str, Any] | None = None
    override_settings_restore_afterwards: bool | None = True
    refiner_checkpoint: str | None = None
    script_name: str | None = None
    alwayson_scripts: dict[str, Any] | None = None
    send_images: bool | None = True
    force_task_id: str | None = None


class TextBody(DrawBody):
    enable_hr: bool | None = False
    hr_scale: float | None = 2.0
    hr_upscaler: str | None = None
    hr_second_pass_steps: int | None = Field(0, ge=0)
    hr_resize_x: int | None = Field(0, ge=0)
    hr_resize_y: int | None = Field(0, ge=0)


class ImageBody(DrawBody):
    init_images: list[str] | None = None
    resize_mode: int | None = Field(0, ge=0, le=3)
    mask: str | None = None
    mask_blur: int | None = None
    mask_blur_x: int | None = 4
    mask_blur_y: int | None = 4
    inpainting_fill: int | None = Field(0, ge=0, le=3)
    inpaint_full_res: bool | None = True
    inpaint_full_res_padding: int | None = 0
    inpainting_mask_invert: int | None = 0
    include_init_images: bool | None = False


class ExtraBody(Body):
    resize_mode: int | None = Field(0, ge=0, le=1)
    upscaling_resize: float | None = 2.0
    upscaling_resize_w: int | None = 512
    upscaling_resize_h: int | None = 512
    upscaling_crop: bool | None = True
    upscaler_1: str | None = "None"


class ExtraSingleBody(ExtraBody):
    image: str = ""


class NamedPicture(Body):
    data: str
    name: str = ""


class ExtraBatchBody(ExtraBody):
    imageList: list[NamedPicture] = Field(max_length=64)


class PngInfoBody(Body):
    image: str


class InterrogateBody(Body):
    image: str = ""
    model: str = "clip"


def asked(body: DrawBody, chosen: Mapping[str, Any], catalogue: Catalogue, inputs: Inputs) -> Asked:
    """What the desk takes. chosen: the user's options. Raises Trouble and InvalidRequest."""
    _refuse_what_is_not_there(body)
    settings = {**chosen, **(body.override_settings or {})}
    model = catalogue.model(_model(settings, catalogue))
    sampler, schedule = _sampler(body)
    if sampler == UNIPC["bh1", 3]:
        sampler = _unipc(settings)
    variation, size = None, (body.seed_resize_from_w or 0, body.seed_resize_from_h or 0)
    if body.subseed_strength or min(size) >= SIDE:
        subseed = body.subseed if body.subseed is not None and body.subseed >= 0 else None
        variation = {
            "seed": secrets.randbelow(2**32) if subseed is None else subseed,
            "strength": body.subseed_strength or 0.0,
            "size": list(size) if min(size) >= SIDE else None,
        }
    request: dict[str, Any] = {
        "prompt": without_comments(body.prompt or ""),
        "negative_prompt": without_comments(body.negative_prompt or ""),
        "seed": body.seed if body.seed is not None and body.seed >= 0 else None,
        "steps": _or(body.steps, 50),
        "cfg_scale": _or(body.cfg_scale, 7.0),
        "width": _rounded(_or(body.width, 512)),
        "height": _rounded(_or(body.height, 512)),
        "sampler": sampler,
        "schedule": schedule,
        "eta": body.eta if body.eta is not None and 0 < body.eta <= 1 else None,
        "clip_skip": _clip_skip(settings),
        "batch_size": _or(body.batch_size, 1),
        "tiling": bool(body.tiling),
        **named_settings(settings),
        "variation": variation,
        "hires": _hires(body, catalogue) if isinstance(body, TextBody) else None,
        "source": _source(body, inputs) if isinstance(body, ImageBody) else None,
        "controls": _controls(body, catalogue, inputs),
    }
    if model.few_steps is not None:
        # What the original would fill in is not for such a model, so what is not sent stays open.
        sent = body.model_fields_set
        left = {name for name in ("steps", "cfg_scale") if name not in sent}
        if not sent & {"sampler_name", "sampler_index"}:
            left |= {"sampler"} | ({"schedule"} if "scheduler" not in sent else set())
        request |= dict.fromkeys(left)
    source = request["source"]
    kind = TXT2IMG if source is None else INPAINT if source["mask"] is not None else IMG2IMG
    order = Order(kind=kind, model=model.name, request=request, count=_or(body.n_iter, 1))
    styles = [style for style in body.styles or () if style in catalogue.styles]
    label = (body.force_task_id or "")[:100]
    return Asked(order=order, inputs=inputs.contents, styles=styles, label=label)


def named_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Fields of a Request that are options there. Raises Trouble for a value that there is none of."""
    found = {}
    for option, (field, find) in NAMED.items():
        if settings.get(option) is not None:
            try:
                found[field] = find(str(settings[option]))
            except InvalidRequest as unknown:
                raise Trouble(422, "invalid", f"{option}: {unknown}", option) from unknown
    return found


def upscaler_of(name: str | None, catalogue: Catalogue) -> str:
    """By our name. Raises Trouble for one that is not there."""
    wanted = LATENT.get((name or "None").strip().lower(), name or "Lanczos")
    try:
        catalogue.upscaler(wanted)
    except InvalidRequest as unknown:
        raise Trouble(400, "invalid", str(unknown), "upscaler") from unknown
    return wanted


# --- inside -----------------------------------------------------------------------------------------------


def _refuse_what_is_not_there(body: DrawBody) -> None:
    if body.script_name not in NONE:
        raise Trouble(422, "invalid", f"Script '{str(body.script_name)[:100]}' not found", "script_name")
    if body.refiner_checkpoint not in NONE:
        raise Trouble(422, "invalid", "there is no refiner here; leave refiner_checkpoint out")


def _sampler(body: DrawBody) -> tuple[str, str]:
    """Sampler and schedule. Old clients name both at once."""
    given = body.sampler_name if body.sampler_name not in NONE else body.sampler_index
    name, fused = split_sampler_name(given or "Euler")
    try:
        sampler = find_sampler(name).label
        schedule = AUTOMATIC if body.scheduler in NONE else find_schedule(str(body.scheduler))
    except InvalidRequest as unknown:
        raise Trouble(
            400, "invalid", f"Sampler not found: {str(unknown)[:2000]}", "sampler_name"
        ) from unknown
    return sampler, fused if schedule == AUTOMATIC and fused is not None else schedule


def _unipc(settings: Mapping[str, Any]) -> str:
    """Which one the options say. Raises Trouble for those that there is none of."""
    variant, order = settings.get("uni_pc_variant", "bh1"), settings.get("uni_pc_order", 3)
    if settings.get("uni_pc_skip_type", "time_uniform") != "time_uniform":
        raise Trouble(422, "invalid", "UniPC has 'time_uniform' here; choose a scheduler", "uni_pc_skip_type")
    if settings.get("uni_pc_lower_order_final", True) is not True:
        why = "UniPC ends in steps of lower order here; leave uni_pc_lower_order_final out"
        raise Trouble(422, "invalid", why, "uni_pc_lower_order_final")
    if (variant, order) not in UNIPC:
        known = ", ".join(f"{name} of order {number}" for name, number in UNIPC)
        why = f"UniPC {str(variant)[:100]} of order {str(order)[:100]} is not there; one of: {known}"
        raise Trouble(422, "invalid", why, "uni_pc_variant")
    return UNIPC[variant, order]


def _model(settings: Mapping[str, Any], catalogue: Catalogue) -> str:
    name = settings.get("sd_model_checkpoint")
    return catalogue.model(name if isinstance(name, str) else None).name


def _clip_skip(settings: Mapping[str, Any]) -> int:
    layers: Any = settings.get("CLIP_stop_at_last_layers")
    return layers if isinstance(layers, int) and 1 <= layers <= 12 else 1


def _hires(body: TextBody, catalogue: Catalogue) -> dict[str, Any] | None:
    if not body.enable_hr:
        return None
    size = None
    width, height = body.hr_resize_x or 0, body.hr_resize_y or 0
    if width or height:
        own = _rounded(_or(body.width, 512)), _rounded(_or(body.height, 512))
        size = [_rounded(width or height * own[0] // own[1]), _rounded(height or width * own[1] // own[0])]
    return {
        "scale": _or(body.hr_scale, 2.0),
        "size": size,
        "upscaler": upscaler_of(body.hr_upscaler or "Latent", catalogue),
        "steps": body.hr_second_pass_steps or None,
        "denoising_strength": max(0.01, _or(body.denoising_strength, 0.75)),
    }


def _source(body: ImageBody, inputs: Inputs) -> dict[str, Any]:
    if not body.init_images:
        raise Trouble(404, "not_found", "Init image not found", "init_images")
    if len(body.init_images) > 1:
        raise Trouble(422, "invalid", "one init image is drawn over in one request", "init_images")
    image = inputs.add(body.init_images[0], "init_images[0]")
    masked = body.mask not in NONE
    return {
        "image": image,
        "mask": inputs.put(_mask(body, inputs, image)) if masked else None,
        "denoising_strength": _or(body.denoising_strength, 0.75),
        "resize_mode": find_resize_mode(_or(body.resize_mode, 0)),
        "mask_blur": float(_blur(body)),
        "fill": FILLS[_or(body.inpainting_fill, 0)],
        "only_masked": bool(body.inpaint_full_res) and masked,
        "padding": max(0, body.inpaint_full_res_padding or 0),
    }


def _blur(body: ImageBody) -> int:
    given = (body.mask_blur_x, body.mask_blur_y) if body.mask_blur is None else (body.mask_blur,)
    return max(0, *(4 if blur is None else blur for blur in given))


def _mask(body: ImageBody, inputs: Inputs, image: int) -> bytes:
    """As a PNG of the picture's size, white where something new is wanted."""
    from PIL import ImageOps

    from pochade.images.masks import gray
    from pochade.images.opening import opened, read_mask, upright_size

    number = inputs.add(str(body.mask), "mask")
    mask = gray(read_mask(inputs.contents.pop(number)))
    with opened(inputs.contents[image]) as picture:
        size = upright_size(picture)
    if mask.size != size:
        mask = mask.resize(size)
    if body.inpainting_mask_invert:
        mask = ImageOps.invert(mask)
    file = io.BytesIO()
    mask.save(file, "PNG")
    return file.getvalue()


def _controls(body: DrawBody, catalogue: Catalogue, inputs: Inputs) -> list[dict[str, Any]]:
    """The units of the ControlNet extension that are switched on."""
    scripts = {str(name).lower(): script for name, script in (body.alwayson_scripts or {}).items()}
    script = scripts.get("controlnet")
    units = script.get("args") if isinstance(script, dict) else None
    controls = []
    for unit in units if isinstance(units, list) else ():
        if not isinstance(unit, dict) or unit.get("enabled") is False or unit.get("model") in NONE:
            continue
        if unit.get("mask") not in NONE or unit.get("control_mode") not in BALANCED:
            why = "masks and modes other than Balanced are not supported; leave mask and control_mode out"
            raise Trouble(422, "invalid", f"a ControlNet unit: {why}", "alwayson_scripts")
        image = unit.get("image") or unit.get("input_image") or _first_image(body)
        image = image.get("image") if isinstance(image, dict) else image
        if not isinstance(image, str):
            raise Trouble(422, "invalid", "a ControlNet unit has no image", "alwayson_scripts")
        model = str(unit["model"]).partition(" [")[0]
        catalogue.controlnet(model)
        numbers = [unit.get(name, default) for name, default in CONTROL_NUMBERS]
        if not all(isinstance(number, int | float) for number in numbers):
            raise Trouble(422, "invalid", "a ControlNet unit's numbers are none", "alwayson_scripts")
        controls.append(
            {
                "image": inputs.add(image, "the image of a ControlNet unit"),
                "model": model,
                **dict(zip(("strength", "start", "end"), map(float, numbers), strict=True)),
                # "invert (from white bg & black line)": the extension explains some of its names.
                "preprocessor": str(unit.get("module") or "none").partition(" (")[0].lower(),
                "resize_mode": _control_resize(unit),
            }
        )
    return controls


def _control_resize(unit: Mapping[str, Any]) -> str:
    """How a unit's picture is brought to the size that is drawn: a name or a number; none is the middle."""
    given = unit.get("resize_mode")
    try:
        return "crop" if given in (None, "") else find_resize_mode(given)
    except InvalidRequest as unknown:
        raise Trouble(422, "invalid", f"a ControlNet unit: {unknown}", "alwayson_scripts") from unknown


def _first_image(body: DrawBody) -> str | None:
    """What a unit without a picture of its own goes by."""
    return body.init_images[0] if isinstance(body, ImageBody) and body.init_images else None


CONTROL_NUMBERS = (("weight", 1.0), ("guidance_start", 0.0), ("guidance_end", 1.0))


def _rounded(side: int) -> int:
    """To what latents can stand for, as the original does."""
    return max(SIDE, side // SIDE * SIDE)


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value
