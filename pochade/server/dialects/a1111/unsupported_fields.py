"""Unsupported fields of A1111's requests: refused if they would change pictures, otherwise ignored."""

from collections.abc import Callable, Mapping
from typing import Any

from pochade.server.dialects.a1111.schemas import DrawBody, ExtraBody, ImageBody, TextBody
from pochade.server.middleware import ErrorReply

NONE = (None, "", "None", "none")

IGNORABLE: Mapping[str, str] = {
    "do_not_save_samples": "each picture is stored for its owner, who may delete it",
    "do_not_save_grid": "grids are not made",
    "save_images": "each picture is stored for its owner in any case",
    "script_args": "arguments of script_name, which is refused",
    "comments": "remarks of the web UI, not settings",
    "refiner_switch_at": "of refiner_checkpoint, which is refused",
    "s_tmin": "used with s_churn only, which is refused",
    "s_tmax": "the same",
    "image_cfg_scale": "used by InstructPix2Pix models only, which are not supported",
    "upscale_first": "the order of upscaling and face restoration; there is no face restoration",
    "codeformer_weight": "of codeformer_visibility, which is refused",
    "show_extras_results": "displayed by the web UI only; the API sends the picture in any case",
}
"""Fields that have no effect on a picture, and why."""

Refusal = tuple[str, Callable[[Any], bool], str]
"""Field, whether a value has no effect, and the error message for other values."""


def _is_falsy(value: Any) -> bool:
    return not value


def _is_none(value: Any) -> bool:
    return value in NONE


def _is_one(value: Any) -> bool:
    return value is None or value == 1


REFUSED: tuple[Refusal, ...] = (
    ("script_name", _is_none, "Script '{value}' not found"),
    ("refiner_checkpoint", _is_none, "the refiner is not supported; omit refiner_checkpoint"),
    ("restore_faces", _is_falsy, "face restoration is not supported; omit restore_faces"),
    (
        "s_min_uncond",
        _is_falsy,
        "negative guidance is always computed at every step; leave s_min_uncond at 0",
    ),
    ("s_churn", _is_falsy, "churn is not supported; leave s_churn at 0"),
    ("s_noise", _is_one, "a noise multiplier is not supported; leave s_noise at 1"),
    ("token_merging_ratio", _is_falsy, "token merging is not supported; leave token_merging_ratio at 0"),
    (
        "token_merging_ratio_hr",
        _is_falsy,
        "token merging is not supported; leave token_merging_ratio_hr at 0",
    ),
)
REFUSED_TXT2IMG: tuple[Refusal, ...] = (
    ("firstpass_image", _is_none, "a given first pass is not supported; use img2img instead"),
)
REFUSED_IMG2IMG: tuple[Refusal, ...] = (
    (
        "initial_noise_multiplier",
        _is_one,
        "a noise multiplier is not supported; leave initial_noise_multiplier at 1",
    ),
    ("latent_mask", _is_none, "a latent mask is not supported; send mask, and omit latent_mask"),
    (
        "mask_round",
        lambda value: value is not False,
        "masks are always rounded in latents; leave mask_round at true",
    ),
)
REFUSED_EXTRAS: tuple[Refusal, ...] = (
    ("gfpgan_visibility", _is_falsy, "face restoration is not supported; leave gfpgan_visibility at 0"),
    (
        "codeformer_visibility",
        _is_falsy,
        "face restoration is not supported; leave codeformer_visibility at 0",
    ),
)


def refuse(body: DrawBody | ExtraBody) -> None:
    """Raise ErrorReply (422) for an unsupported field that would change the picture."""
    refusals: tuple[Refusal, ...]
    if isinstance(body, ExtraBody):
        refusals = REFUSED_EXTRAS
        if body.upscaler_2 not in NONE and body.extras_upscaler_2_visibility:
            raise ErrorReply(422, "invalid", "only one upscaler is supported; omit upscaler_2", "upscaler_2")
    else:
        refusals = REFUSED
        if isinstance(body, ImageBody):
            refusals += REFUSED_IMG2IMG
        elif isinstance(body, TextBody) and body.enable_hr:
            refusals += REFUSED_TXT2IMG
    for name, has_no_effect, why in refusals:
        value = getattr(body, name)
        if not has_no_effect(value):
            raise ErrorReply(422, "invalid", why.format(value=str(value)[:100]), name)
