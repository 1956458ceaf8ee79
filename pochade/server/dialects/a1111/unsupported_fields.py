"""Fields of A1111's requests that are not done: refused where they would change pictures, or ignorable."""

from collections.abc import Callable, Mapping
from typing import Any

from pochade.server.dialects.a1111.schemas import DrawBody, ExtraBody, ImageBody, TextBody
from pochade.server.middleware import ErrorReply

NONE = (None, "", "None", "none")

IGNORABLE: Mapping[str, str] = {
    "do_not_save_samples": "each picture is kept for its owner, who may delete it",
    "do_not_save_grid": "grids are not made here",
    "save_images": "each picture is kept for its owner in any case",
    "script_args": "arguments of script_name, which is refused",
    "comments": "what the web UI says of the picture, not what is asked of it",
    "refiner_switch_at": "of refiner_checkpoint, which is refused",
    "s_tmin": "where s_churn counts, which is refused",
    "s_tmax": "the same",
    "image_cfg_scale": "read by models of instructions only, which are not drawn with here",
    "upscale_first": "the order of upscaling and face restoration; there is no face restoration",
    "codeformer_weight": "of codeformer_visibility, which is refused",
    "show_extras_results": "whether the page there shows the picture; the API sends it in any case",
}
"""Fields that change nothing of a picture, and why."""

Refusal = tuple[str, Callable[[Any], bool], str]
"""Name, whether a value asks for nothing, and what to say of one that does."""


def _nothing(value: Any) -> bool:
    return not value


def _no_name(value: Any) -> bool:
    return value in NONE


def _one(value: Any) -> bool:
    return value is None or value == 1


OF_ALL: tuple[Refusal, ...] = (
    ("script_name", _no_name, "Script '{value}' not found"),
    ("refiner_checkpoint", _no_name, "the refiner is not supported here; omit refiner_checkpoint"),
    ("restore_faces", _nothing, "face restoration is not supported; omit restore_faces"),
    ("s_min_uncond", _nothing, "negative guidance is always computed at every step; leave s_min_uncond at 0"),
    ("s_churn", _nothing, "churn is not supported; leave s_churn at 0"),
    ("s_noise", _one, "a noise multiplier is not supported; leave s_noise at 1"),
    ("token_merging_ratio", _nothing, "token merging is not supported; leave token_merging_ratio at 0"),
    ("token_merging_ratio_hr", _nothing, "token merging is not supported; leave token_merging_ratio_hr at 0"),
)
OF_TEXT: tuple[Refusal, ...] = (
    ("firstpass_image", _no_name, "a given first pass is not supported; use img2img instead"),
)
OF_IMAGE: tuple[Refusal, ...] = (
    (
        "initial_noise_multiplier",
        _one,
        "a noise multiplier is not supported; leave initial_noise_multiplier at 1",
    ),
    ("latent_mask", _no_name, "a latent mask is not supported; send mask, and omit latent_mask"),
    (
        "mask_round",
        lambda value: value is not False,
        "masks are always rounded in latents; leave mask_round at true",
    ),
)
OF_EXTRAS: tuple[Refusal, ...] = (
    ("gfpgan_visibility", _nothing, "face restoration is not supported; leave gfpgan_visibility at 0"),
    (
        "codeformer_visibility",
        _nothing,
        "face restoration is not supported; leave codeformer_visibility at 0",
    ),
)


def refuse(body: DrawBody | ExtraBody) -> None:
    """Raises Trouble (422) for what would change the picture and is not available here."""
    refusals: tuple[Refusal, ...]
    if isinstance(body, ExtraBody):
        refusals = OF_EXTRAS
        if body.upscaler_2 not in NONE and body.extras_upscaler_2_visibility:
            raise ErrorReply(422, "invalid", "only one upscaler is supported; omit upscaler_2", "upscaler_2")
    else:
        refusals = OF_ALL
        if isinstance(body, ImageBody):
            refusals += OF_IMAGE
        elif isinstance(body, TextBody) and body.enable_hr:
            refusals += OF_TEXT
    for name, asks_nothing, why in refusals:
        value = getattr(body, name)
        if not asks_nothing(value):
            raise ErrorReply(422, "invalid", why.format(value=str(value)[:100]), name)
