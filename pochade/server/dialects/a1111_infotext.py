"""What a parameters text in a request (`infotext`) fills in, of the fields that are not sent themselves."""

from typing import Any, TypeVar

from pochade.errors import InvalidRequest
from pochade.images.metadata import read_parameters
from pochade.server.dialects.a1111_settings import CLIP_SKIP, MODEL
from pochade.server.dialects.a1111_shapes import DrawBody

B = TypeVar("B", bound=DrawBody)


def _strength(text: str) -> float:
    try:
        strength = float(text)
    except ValueError:
        strength = -1.0
    if not 0 <= strength <= 1:
        raise InvalidRequest(f"the infotext says 'Denoising strength: {text[:100]}'; it is 0 to 1")
    return strength


def filled_in(body: B) -> B:
    """The body with what its infotext says. Raises InvalidRequest for a text that cannot be read."""
    if not body.infotext:
        return body
    from pochade.pipeline.results.again import request_from
    from pochade.pipeline.results.as_meant import as_meant

    found = request_from(body.infotext)
    told = as_meant(read_parameters(body.infotext).values)
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
    if "Denoising strength" in told:
        values["denoising_strength"] = _strength(told["Denoising strength"])
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
        MODEL: told.get("Model"),
        "randn_source": found.rng,  # also where the text says nothing: it means the usual one then
        "emphasis": found.emphasis,
    }
    said = {name: value for name, value in settings.items() if value is not None}
    changes["override_settings"] = {**said, **(body.override_settings or {})}
    return body.model_copy(update=changes)


def not_filled_in(text: str) -> list[str]:
    """Names of settings of a picture's text that change the picture and that a request cannot have."""
    from pochade.pipeline.results.left_out import not_followed

    values = read_parameters(text).values
    lacking = [name for name in ("CFG Rescale", "Speed", "Blend prompt") if name in values]
    return [f"infotext.{name}" for name in (*not_followed(values), *lacking)]
