"""Converts the parameters text of a picture, from Pochade or another tool, to a request."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pochade.diffusion.schedule import AUTOMATIC, split_sampler_name
from pochade.errors import InvalidRequest
from pochade.generation.infotext_unsupported import known_choices, unipc_of
from pochade.generation.infotext_values import normalized_values
from pochade.images.metadata import Parameters, read_parameters
from pochade.prompts.comments import knows_comments, without_comments
from pochade.request import Request
from pochade.request_options import Blend, Hires, Refiner, Variation

T = TypeVar("T")

MULTIPLE = 8
"""Sizes in text-to-image are rounded to multiples of this, px."""

UNSEEN = ("Denoising strength", "Mask blur")
"""Names that, without those of a second pass, tell of a picture that was drawn over."""


def request_from(text: str) -> Request:
    """Return the request of a parameters text; what it does not state has its default.

    Image-to-image becomes text-to-image, since the text does not contain the source picture (see
    `has_source`). `infotext_unsupported.not_followed` lists other settings that are ignored. Raises
    InvalidRequest, naming the value, for one that is invalid.
    """
    parameters = read_parameters(text)
    values = normalized_values(parameters.values)
    name, fused = split_sampler_name(values["Sampler"]) if "Sampler" in values else (None, None)
    if name is not None:
        name = unipc_of(name, values) or name
    width, height = _size(values, "Size") or (None, None)
    if has_source(parameters) and (width or 0) % MULTIPLE + (height or 0) % MULTIPLE:
        width = height = None  # that of the picture that it was drawn over, which is kept where it is given
    known: dict[str, Any] = {
        "steps": _read(values, "Steps", int),
        "cfg_scale": _read(values, "CFG scale", float),
        "seed": _read(values, "Seed", int),
        "clip_skip": _read(values, "Clip skip", int),
        "eta": _read(values, "Eta" if "Eta" in values else "Eta DDIM", float),
        "guidance_rescale": _read(values, "CFG Rescale", float),
        **known_choices(values),
    }
    comments = knows_comments(values.get("Version", ""))
    prompt, negative_prompt = (
        without_comments(text) if comments else text
        for text in (parameters.prompt, parameters.negative_prompt)
    )
    hires = _hires(values)
    if comments and hires is not None:
        hires = hires.with_texts(without_comments, without_comments)
    return Request(
        prompt=prompt,
        negative_prompt=negative_prompt,
        sampler=name,
        schedule=values.get("Schedule type", fused or (None if name is None else AUTOMATIC)),
        width=width,
        height=height,
        blend=_blend(values),
        variation=_variation(values),
        hires=hires,
        refiner=_refiner(values),
        **{field: value for field, value in known.items() if value is not None},
    )


def has_source(parameters: Parameters) -> bool:
    """Whether the picture was drawn over a source picture, which the text does not contain."""
    values = normalized_values(parameters.values)
    return _hires(values) is None and any(name in values for name in UNSEEN)


def has_controls(parameters: Parameters) -> bool:
    """Whether ControlNets were used, whose control pictures the text does not contain."""
    return any(name.startswith("ControlNet ") for name in parameters.values)


def _blend(values: Mapping[str, str]) -> Blend | None:
    share = _read(values, "Blend share", float)
    return None if share is None else Blend(prompt=values.get("Blend prompt", ""), share=share)


def _variation(values: Mapping[str, str]) -> Variation | None:
    seed, strength = _read(values, "Variation seed", int), _read(values, "Variation seed strength", float)
    size = _size(values, "Seed resize from")
    if size is None and not strength:
        return None
    if seed is not None and seed < 0:
        raise InvalidRequest(
            f"the parameters text has 'Variation seed: {seed}' (random), so the seed that was used is unknown"
        )
    return Variation(seed=seed or 0, strength=strength or 0.0, size=size)


def _hires(values: Mapping[str, str]) -> Hires | None:
    scale, size = _read(values, "Hires upscale", float), _size(values, "Hires resize")
    if scale is None and size is None:
        return None
    strength = _read(values, "Denoising strength", float)
    return Hires(
        scale=2.0 if scale is None else scale,
        size=size,
        upscaler=values.get("Hires upscaler", "Latent"),
        steps=_read(values, "Hires steps", int) or None,  # some write 0 for "as many"
        denoising_strength=0.7 if strength is None else strength,
        prompt=values.get("Hires prompt"),
        negative_prompt=values.get("Hires negative prompt"),
        sampler=_named(values, "Hires sampler"),
        schedule=_named(values, "Hires schedule type"),
        cfg_scale=_read(values, "Hires CFG Scale", float),
        model=_model_named(values, "Hires checkpoint"),
    )


def _refiner(values: Mapping[str, str]) -> Refiner | None:
    name = _model_named(values, "Refiner")
    if name is None:
        return None
    switch = _read(values, "Refiner switch at", float)
    return Refiner(model=name, switch=0.8 if switch is None else switch)


def _model_named(values: Mapping[str, str], key: str) -> str | None:
    """The name of a model, without the hash after it; it is looked up when the picture is drawn."""
    name = _named(values, key)
    return None if name is None else re.sub(r"\s*\[[0-9a-fA-F]*\]$", "", name).strip() or None


def _named(values: Mapping[str, str], key: str) -> str | None:
    """A name; None for "None" and for values such as "Use same sampler"."""
    name = values.get(key, "").strip()
    return None if name in ("", "None") or name.lower().startswith("use same ") else name


def _read(values: Mapping[str, str], name: str, kind: Callable[[str], T]) -> T | None:
    if name not in values:
        return None
    try:
        value = kind(values[name])
    except ValueError as wrong:
        raise InvalidRequest(
            f"the parameters text has '{name}: {values[name]}', which is not a number"
        ) from wrong
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest(f"the parameters text has '{name}: {values[name]}', which is not finite")
    return value


def _size(values: Mapping[str, str], name: str) -> tuple[int, int] | None:
    if name not in values:
        return None
    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", values[name].strip())
    if found is None:
        raise InvalidRequest(f"the parameters text has '{name}: {values[name]}'; a size is WIDTHxHEIGHT")
    return int(found[1]), int(found[2])
