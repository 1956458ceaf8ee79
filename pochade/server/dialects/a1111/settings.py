"""Settings of A1111's web UI, from a request (`override_settings`) or a user (`options`).

Some are supported, some must have the value that Pochade implements, some have no effect on a picture.
"""

from collections.abc import Mapping
from typing import Any

from pochade.server.middleware import ErrorReply

MODEL, CLIP_SKIP, FORMAT, QUALITY = (
    "sd_model_checkpoint", "CLIP_stop_at_last_layers", "samples_format", "jpeg_quality",
)  # fmt: skip
ETAS = {"eta_ancestral": False, "eta_ddim": True}
"""Settings of eta, and whether they apply to DDIM."""

NAMES = ("randn_source", "emphasis")
UNIPC_OPTIONS = ("uni_pc_variant", "uni_pc_order", "uni_pc_skip_type", "uni_pc_lower_order_final")
KEPT = DONE = (MODEL, CLIP_SKIP, FORMAT, QUALITY, *ETAS, *NAMES, *UNIPC_OPTIONS)
"""Supported settings; they are stored when a user sets them."""

FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}
MAX_CLIP_SKIP = 12
DEFAULT_QUALITY = 80

FIXED: Mapping[str, tuple[Any, ...]] = {
    "sd_vae": ("Automatic", "None", "", "auto"),
    "sd_unet": ("Automatic", "None", ""),
    "sd_hypernetwork": ("None", ""),
    "sd_lora": ("None", ""),
    "eta_noise_seed_delta": (0,),
    "enable_emphasis": (True,),
    "use_old_emphasis_implementation": (False,),
    "comma_padding_backtrack": (20,),
    "s_churn": (0,),
    "s_noise": (1,),
    "s_min_uncond": (0,),
    "skip_early_cond": (0,),
    "face_restoration": (False,),
    "tiling": (False,),
    "img2img_fix_steps": (False,),
    "img2img_color_correction": (False,),
    "img2img_extra_noise": (0,),
    "initial_noise_multiplier": (1,),
    "inpainting_mask_weight": (1,),
    "token_merging_ratio": (0,),
    "token_merging_ratio_img2img": (0,),
    "token_merging_ratio_hr": (0,),
    "always_discard_next_to_last_sigma": (False,),
    "sgm_noise_multiplier": (False,),
    "k_sched_type": ("Automatic", ""),
    "sigma_min": (0,),
    "sigma_max": (0,),
    "rho": (0,),
    "sd_noise_schedule": ("Default",),
    "sdxl_crop_top": (0,),
    "sdxl_crop_left": (0,),
    "sd_vae_encode_method": ("Full",),
    "sd_vae_decode_method": ("Full",),
    "fp8_storage": ("Disable",),
    "hires_fix_use_firstpass_conds": (False,),
    "use_old_hires_fix_width_height": (False,),
    "use_old_karras_scheduler_sigmas": (False,),
    "use_old_scheduling": (False,),
    "use_downcasted_alpha_bar": (False,),
    "dont_fix_second_order_samplers_schedule": (False,),
    "no_dpmpp_sde_batch_determinism": (False,),
}
"""Settings that change pictures, and the values that match what Pochade does. None is always accepted."""

IGNORABLE: Mapping[str, str] = {
    "samples_": "how files are saved; Pochade stores each picture for its owner",
    "save_": "the same",
    "grid_": "grids are not made",
    "return_": "additional pictures to return; there are none",
    "outdir_": "folders on the server; clients cannot choose them",
    "directories_": "the same",
    "use_save_to_dirs_for_ui": "the same",
    "live_preview": "previews come with the progress in any case",
    "show_": "displayed by the web UI only",
    "ui_": "the same",
    "extra_networks_": "the same",
    "enable_pnginfo": "each picture contains its parameters text",
    "add_model_": "the text has the model's name and hash",
    "add_vae_": "the text names no autoencoder",
    "add_version_to_infotext": "the text names the version",
    "infotext_": "how texts are pasted into the web UI",
    "do_not_show_images": "displayed by the web UI only",
    "do_not_add_watermark": "no watermark is drawn",
    "webp_lossless": "WebP is written with the requested quality",
    "sd_checkpoint_cache": "how much is kept in memory; an option of the server",
    "sd_checkpoints_": "the same",
    "sd_checkpoint_hash": "the checkpoint is known by its name",
    "sd_vae_checkpoint_cache": "how much is kept in memory; an option of the server",
    "batch_cond_uncond": "speed; the picture is the same",
    "pad_cond_uncond": "the same",
    "persistent_cond_cache": "the same",
    "cross_attention_optimization": "the same",
    "upcast_": "precision; an option of the server",
    "memmon_poll_rate": "memory monitoring; no effect on pictures",
    "multiple_tqdm": "progress bars in A1111's terminal",
}
"""Prefixes of settings that have no effect on a picture, and why each may be ignored."""


def check_settings(settings: Mapping[str, Any]) -> list[str]:
    """Return the names of unknown settings, which are left out.

    Raises ErrorReply (422) for an unsupported setting that would change the picture.
    """
    unknown = []
    for name, value in settings.items():
        if name in DONE or value is None:
            continue
        if name in FIXED:
            if not any(_same(value, supported) for supported in FIXED[name]):
                supported = FIXED[name][0]
                raise ErrorReply(
                    422,
                    "invalid",
                    f"the setting {name} is {str(value)[:100]!r}, which is not supported here; omit it, or"
                    f" send {supported!r}",
                    "override_settings",
                )
        elif not name.startswith(tuple(IGNORABLE)):
            unknown.append(name)
    clip_skip(settings)
    picture_format(settings)
    eta_of(settings, "")
    return unknown


def clip_skip(settings: Mapping[str, Any]) -> int:
    """Return the layer, counted from the end, 1 to 12. 0 means 1, as in A1111. Some clients send text.

    Raises ErrorReply (422) for anything else.
    """
    given = settings.get(CLIP_SKIP)
    if given is None or given == "":
        return 1
    try:
        layers = int(float(given))
    except (TypeError, ValueError, OverflowError):
        layers = -1
    if not 0 <= layers <= MAX_CLIP_SKIP:
        raise ErrorReply(
            422,
            "invalid",
            f"the setting {CLIP_SKIP} is {str(given)[:100]!r}; it must be a number from 1 to {MAX_CLIP_SKIP}",
            "override_settings",
        )
    return max(1, layers)


def picture_format(settings: Mapping[str, Any]) -> tuple[str, int]:
    """Return Pillow's name of the format in which pictures are sent, and its quality, 1 to 100.

    Raises ErrorReply (422) for an unsupported format.
    """
    given, quality = settings.get(FORMAT), settings.get(QUALITY)
    name = "png" if given in (None, "") else str(given).strip().lower().removeprefix(".")
    if name not in FORMATS:
        raise ErrorReply(
            422,
            "invalid",
            f"the setting {FORMAT} is {str(given)[:100]!r}; one of: {', '.join(FORMATS)}",
            "override_settings",
        )
    try:
        number = DEFAULT_QUALITY if quality is None else int(float(quality))
    except (TypeError, ValueError, OverflowError):
        number = 0
    if not 1 <= number <= 100:
        raise ErrorReply(
            422,
            "invalid",
            f"the setting {QUALITY} is {str(quality)[:100]!r}; it must be a number from 1 to 100",
            "override_settings",
        )
    return FORMATS[name], number


def eta_of(settings: Mapping[str, Any], sampler: str) -> float | None:
    """Return the eta in the settings for a sampler; used if the request itself has no eta.

    Raises ErrorReply (422) for anything but a number from 0 to 1.
    """
    found = None
    for name, ddim in ETAS.items():
        given = settings.get(name)
        if given is None or given == "":
            continue
        try:
            eta = float(given)
        except (TypeError, ValueError, OverflowError):
            eta = -1.0
        if not 0 <= eta <= 1:
            why = f"the setting {name} is {str(given)[:100]!r}; it must be a number from 0 to 1"
            raise ErrorReply(422, "invalid", why, "override_settings")
        if ddim == (sampler == "DDIM"):
            found = eta
    return found


def _same(value: Any, supported: Any) -> bool:
    """Return whether a sent value equals a supported one; numbers and booleans may be sent as text."""
    if isinstance(value, str) and not isinstance(supported, str):
        return value.strip().lower() in (str(supported).lower(), f"{supported}.0")
    if isinstance(supported, str):
        return isinstance(value, str) and value.strip().lower() == supported.lower()
    return bool(value == supported)
