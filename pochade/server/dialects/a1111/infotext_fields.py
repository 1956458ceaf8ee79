"""Fill in the fields of a request that are not sent from its `infotext`, a parameters text."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pochade.errors import InvalidRequest
from pochade.images.metadata import read_parameters
from pochade.request_options import MAX_BLUR, MAX_PADDING
from pochade.server.dialects.a1111.schemas import DrawBody, ImageBody
from pochade.server.dialects.a1111.settings import CLIP_SKIP, MODEL

B = TypeVar("B", bound=DrawBody)


MASKED_CONTENT = (
    ("fill", "surroundings"),
    ("original",),
    ("latent noise", "noise"),
    ("latent nothing", "nothing"),
)
"""Indexed by A1111's number: its names and Pochade's."""

MASK_SETTINGS = {"Mask blur", "Mask mode", "Masked content", "Inpaint area"}
"""Settings that a text contains if there was a mask."""


def _number(parameters: Mapping[str, str], name: str, maximum: float) -> float:
    try:
        number = float(parameters[name])
    except ValueError:
        number = -1.0
    if not 0 <= number <= maximum:
        raise InvalidRequest(
            f"the infotext says '{name}: {parameters[name][:100]}'; it must lie between 0 and {maximum:g}"
        )
    return number


def _img2img_fields(parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of an img2img request; the picture itself is not in the text."""
    values: dict[str, Any] = {}
    if "Denoising strength" in parameters:
        values["denoising_strength"] = _number(parameters, "Denoising strength", 1)
    if "Mask blur" in parameters:
        values["mask_blur"] = int(_number(parameters, "Mask blur", MAX_BLUR))
    if "Masked area padding" in parameters:
        values["inpaint_full_res_padding"] = int(_number(parameters, "Masked area padding", MAX_PADDING))
    if not MASK_SETTINGS & parameters.keys():
        return values
    # Missing settings get the defaults that the web UI uses when it reads such a text.
    content = parameters.get("Masked content", "original")
    fills = [number for number, names in enumerate(MASKED_CONTENT) if content.lower() in names]
    if not fills:
        known = ", ".join(names[0] for names in MASKED_CONTENT)
        raise InvalidRequest(f"the infotext says 'Masked content: {content[:100]}'; one of: {known}")
    return values | {
        "inpainting_fill": fills[0],
        "inpaint_full_res": parameters.get("Inpaint area", "").lower() == "only masked",
        "inpainting_mask_invert": int(parameters.get("Mask mode", "").lower() == "inpaint not masked"),
    }


def filled_in(body: B) -> B:
    """Return the body with the values of its infotext. Raises InvalidRequest for an unreadable text."""
    if not body.infotext:
        return body
    from pochade.generation.infotext_request import request_from
    from pochade.generation.infotext_values import normalized_values

    found = request_from(body.infotext)
    parameters = normalized_values(read_parameters(body.infotext).values)
    variation, hires = found.variation, found.hires
    values: dict[str, Any] = {
        "prompt": found.prompt,
        "negative_prompt": found.negative_prompt,
        "seed": found.seed,
        "steps": found.steps,
        "cfg_scale": found.cfg_scale,
        "sampler_name": found.sampler,
        "scheduler": found.schedule,
        "width": found.width,
        "height": found.height,
        "eta": found.eta,
        "tiling": found.tiling or None,
        "refiner_checkpoint": None if found.refiner is None else str(found.refiner.model),
    }
    values |= _img2img_fields(parameters)
    if body.model_fields_set & {"mask_blur_x", "mask_blur_y"}:
        values.pop("mask_blur", None)
    if variation is not None:
        values |= {"subseed": variation.seed, "subseed_strength": variation.strength}
        if variation.size is not None:
            values |= dict(zip(("seed_resize_from_w", "seed_resize_from_h"), variation.size, strict=True))
    if hires is not None:
        values |= {
            "enable_hr": True,
            "hr_scale": hires.scale,
            "hr_upscaler": hires.upscaler,
            "hr_second_pass_steps": hires.steps,
            "hr_prompt": hires.prompt,
            "hr_negative_prompt": hires.negative_prompt,
            "hr_sampler_name": hires.sampler,
            "hr_scheduler": hires.schedule,
            "hr_cfg": hires.cfg_scale,
            "hr_checkpoint_name": None if hires.model is None else str(hires.model),
        }
        if hires.size is not None:
            values |= dict(zip(("hr_resize_x", "hr_resize_y"), hires.size, strict=True))
    known = type(body).model_fields
    changes = {
        name: value
        for name, value in values.items()
        if value is not None and name in known and name not in body.model_fields_set
    }
    settings = {
        CLIP_SKIP: found.clip_skip if found.clip_skip > 1 else None,
        MODEL: parameters.get("Model"),
        "randn_source": found.rng,  # also if the text does not contain it: then it means the default
        "emphasis": found.emphasis,
    }
    present = {name: value for name, value in settings.items() if value is not None}
    changes["override_settings"] = {**present, **(body.override_settings or {})}
    return body.model_copy(update=changes)


def not_filled_in(body: DrawBody) -> list[str]:
    """Return the settings of its infotext that change the picture and are not supported in such a request."""
    from pochade.generation.infotext_request import has_source
    from pochade.generation.infotext_unsupported import OVER_A_PICTURE, not_followed

    if not body.infotext:
        return []
    parameters = read_parameters(body.infotext)
    values = parameters.values
    unsupported = [
        name
        for name in values
        if name in ("CFG Rescale", "Speed", "Blend prompt") or name.startswith("ControlNet ")
    ]
    if isinstance(body, ImageBody):
        unsupported += [name for name in values if name.startswith("Hires ")]
    elif has_source(parameters):
        unsupported += [name for name in values if name in OVER_A_PICTURE]
    return [f"infotext.{name}" for name in dict.fromkeys((*not_followed(values), *unsupported))]
