"""Finds settings in a parameters text that `infotext_request.request_from` does not support."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from pochade.diffusion.samplers import UNIPC
from pochade.errors import InvalidRequest
from pochade.generation.infotext_values import FIRST_PASS, normalized_values
from pochade.request import find_emphasis, find_rng
from pochade.speed import find_speed

FOLLOWED = frozenset(
    {
        *("Steps", "Sampler", "Schedule type", "CFG scale", "CFG Rescale", "Seed", "Size", "Clip skip"),
        *("Eta", "Eta DDIM", "Speed", "Tiling", "RNG", "Emphasis", "Blend prompt", "Blend share"),
        *("Variation seed", "Variation seed strength", "Seed resize from"),
        *("Hires upscale", "Hires resize", "Hires steps", "Hires upscaler", "Refiner", "Refiner switch at"),
        *("Hires prompt", "Hires negative prompt", "Hires sampler", "Hires schedule type"),
        *("Hires CFG Scale", "Hires checkpoint"),
        FIRST_PASS,
    }
)
"""Names of what `request_from` reads."""

BELONGS: Mapping[str, tuple[str, ...]] = {
    "Hires ": ("Hires upscale", "Hires resize"),
    "Refiner switch at": ("Refiner",),
    "Blend prompt": ("Blend share",),
}
"""Prefix of settings -> the setting they belong to, without which they are ignored."""

OVER_A_PICTURE = frozenset(
    {
        *("Denoising strength", "Mask blur", "Masked content", "Inpaint area", "Masked area padding"),
        *("Mask mode", "Init image hash"),
    }
)
"""Settings of image-to-image, whose picture is not in the text: see `infotext_request.has_source`."""

DESCRIBING = frozenset(
    {
        *("Version", "User", "Model", "Model hash", "VAE hash", "Lora hashes", "TI hashes", "TI", "Hashes"),
        *("Template", "Negative Template", "Batch size", "Batch pos", "Time taken", "Civitai metadata"),
        *("Date", "Created Date"),
    }
)
"""Settings that do not change the picture, or are handled elsewhere: the model by the caller, adapters and
embeddings by the prompt."""

UNIPC_OPTIONS: Mapping[str, str] = {"UniPC variant": "bh1", "UniPC order": "3"}
"""A1111's options that `request_from` supports if such a sampler exists, and their defaults in A1111."""

NOTHING = ("", "0", "none", "false", "disable", "disabled")
"""Values with which most settings change nothing, in small letters."""

NEUTRAL: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("Noise multiplier", "Conditional mask weight", "Sigma noise"), ("1",)),
    "Sigma tmax": (*NOTHING, "inf"),
    "UniPC variant": ("bh1",),
    "UniPC order": ("3",),
    "UniPC skip type": ("time_uniform",),
    "UniPC lower order final": ("true",),
    "VAE": (*NOTHING, "automatic"),
    "VAE Encoder": ("full",),
    "VAE Decoder": ("full",),
}
"""The same, of those for which it is something else."""


def known_choices(values: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a Request that have a fixed set of names; unknown values keep the default.

    values: of `read_parameters`.
    """
    read = {field: _choice(values, name) for name, (field, _) in CHOICES.items()}
    return {field: value for field, value in read.items() if value is not None}


def not_followed(values: Mapping[str, str]) -> list[str]:
    """Return the names, in order, of settings that change the picture and that `request_from` ignores.

    values: of `read_parameters`. Unknown names are included, since extensions write them. The model, a source
    picture and ControlNets are not (`infotext_request.has_source`, `infotext_request.has_controls`).
    """
    values = normalized_values(values)
    unipc = unipc_of(values.get("Sampler", ""), values) is not None
    return [
        name
        for name, value in values.items()
        if (name in CHOICES and _choice(values, name) is None)
        or (_lacks_its_other(name, values) and not _is_neutral(name, value))
        or not (_is_told(name) or _is_neutral(name, value) or (unipc and name in UNIPC_OPTIONS))
    ]


def _lacks_its_other(name: str, values: Mapping[str, str]) -> bool:
    """Whether a setting belongs to one that is missing in the text, such as a second pass."""
    others = next((others for start, others in BELONGS.items() if name.startswith(start)), None)
    return others is not None and not any(each in values for each in others)


def unipc_of(sampler: str, values: Mapping[str, str]) -> str | None:
    """Return the label of the UniPC variant that A1111's options describe; None if it does not exist here."""
    if sampler.strip().lower() != "unipc":
        return None
    variant, order = (values.get(name, default) for name, default in UNIPC_OPTIONS.items())
    return UNIPC.get((variant.strip().lower(), int(order) if order.strip().isdecimal() else 0))


def _choice(values: Mapping[str, str], name: str) -> Any:
    """The value of a name of CHOICES; None if it is missing or unknown."""
    if name not in values:
        return None
    try:
        return CHOICES[name][1](values[name])
    except InvalidRequest:
        return None


def _speed(name: str) -> str:
    find_speed(name)
    return name


def _tiling(name: str) -> bool:
    if name.strip().lower() not in ("true", "false"):
        raise InvalidRequest(f"Tiling is '{name}'; it is True or False")
    return name.strip().lower() == "true"


CHOICES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "RNG": ("rng", find_rng),
    "Emphasis": ("emphasis", find_emphasis),
    "Speed": ("speed", _speed),
    "Tiling": ("tiling", _tiling),
}
"""Name -> field of a Request, and what reads the value."""


def _is_told(name: str) -> bool:
    known = name in FOLLOWED or name in OVER_A_PICTURE or name in DESCRIBING
    return known or name.startswith("ControlNet ")


def _is_neutral(name: str, value: str) -> bool:
    plain = value.strip().lower()
    with suppress(ValueError):
        plain = f"{float(plain):g}"
    return plain in NEUTRAL.get(name, NOTHING)
