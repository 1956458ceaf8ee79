"""Request bodies of A1111's API."""

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

from pochade.jobs.limits import LARGEST_SEED
from pochade.server.request_bodies import Body


def whole_number(value: Any) -> Any:
    """Truncate a fractional number, as A1111 does: 127.6 becomes 127."""
    if isinstance(value, float) and math.isfinite(value):
        return int(value)
    return value


def table(value: Any) -> Any:
    """Convert an empty list, which some languages write for an empty object, to a dict."""
    return {} if value == [] else value


Whole = Annotated[int, BeforeValidator(whole_number)]
Table = Annotated[dict[str, Any], BeforeValidator(table)]


class A1111Body(Body):
    """Accepts numbers for strings, as A1111 does."""

    model_config = ConfigDict(coerce_numbers_to_str=True)


class DrawBody(A1111Body):
    prompt: str | None = ""
    negative_prompt: str | None = ""
    styles: list[str] | None = None
    seed: Whole | None = Field(-1, le=LARGEST_SEED)
    subseed: Whole | None = Field(-1, le=LARGEST_SEED)
    subseed_strength: float | None = Field(0, ge=0, le=1)
    seed_resize_from_h: Whole | None = -1
    seed_resize_from_w: Whole | None = -1
    sampler_name: str | None = None
    sampler_index: str | None = "Euler"
    scheduler: str | None = None
    batch_size: Whole | None = Field(1, ge=1)
    n_iter: Whole | None = Field(1, ge=1)
    steps: Whole | None = Field(50, ge=1)
    cfg_scale: float | None = Field(7.0, ge=0, le=100)
    width: Whole | None = Field(512, ge=1, le=16384)
    height: Whole | None = Field(512, ge=1, le=16384)
    seed_enable_extras: bool | None = True
    restore_faces: bool | None = None
    tiling: bool | None = None
    eta: float | None = Field(None, ge=0, le=1)
    s_min_uncond: float | None = None
    s_churn: float | None = None
    s_tmax: float | None = None
    s_tmin: float | None = None
    s_noise: float | None = None
    token_merging_ratio: float | None = None
    token_merging_ratio_hr: float | None = None
    denoising_strength: float | None = Field(0.75, ge=0, le=1)
    override_settings: Table | None = None
    override_settings_restore_afterwards: bool | None = True
    refiner_checkpoint: str | None = None
    refiner_switch_at: float | None = None
    disable_extra_networks: bool | None = False
    script_name: str | None = None
    script_args: Any = None
    alwayson_scripts: Table | None = None
    send_images: bool | None = True
    save_images: bool | None = False
    do_not_save_samples: bool | None = False
    do_not_save_grid: bool | None = False
    comments: Any = None
    force_task_id: str | None = None
    infotext: str | None = None


class TextBody(DrawBody):
    enable_hr: bool | None = False
    hr_scale: float | None = 2.0
    hr_upscaler: str | None = None
    hr_second_pass_steps: Whole | None = Field(0, ge=0)
    hr_resize_x: Whole | None = Field(0, ge=0)
    hr_resize_y: Whole | None = Field(0, ge=0)
    hr_checkpoint_name: str | None = None
    hr_sampler_name: str | None = None
    hr_scheduler: str | None = None
    hr_prompt: str | None = ""
    hr_negative_prompt: str | None = ""
    hr_cfg: float | None = Field(None, ge=0, le=100)
    firstphase_width: Whole | None = Field(0, ge=0)
    firstphase_height: Whole | None = Field(0, ge=0)
    firstpass_image: str | None = None


class ImageBody(DrawBody):
    init_images: list[str] | None = None
    resize_mode: Whole | None = Field(0, ge=0, le=3)
    mask: str | None = None
    mask_blur: Whole | None = Field(None, le=1024)
    mask_blur_x: Whole | None = Field(4, le=1024)
    mask_blur_y: Whole | None = Field(4, le=1024)
    inpainting_fill: Whole | None = Field(0, ge=0, le=3)
    inpaint_full_res: bool | None = True
    inpaint_full_res_padding: Whole | None = Field(0, le=16384)
    inpainting_mask_invert: Whole | None = 0
    include_init_images: bool | None = False
    initial_noise_multiplier: float | None = None
    image_cfg_scale: float | None = None
    latent_mask: str | None = None
    mask_round: bool | None = True


class ExtraBody(A1111Body):
    resize_mode: Whole | None = Field(0, ge=0, le=1)
    upscaling_resize: float | None = 2.0
    upscaling_resize_w: Whole | None = 512
    upscaling_resize_h: Whole | None = 512
    upscaling_crop: bool | None = True
    upscaler_1: str | None = "None"
    upscaler_2: str | None = "None"
    extras_upscaler_2_visibility: float | None = Field(0, ge=0, le=1)
    gfpgan_visibility: float | None = Field(0, ge=0, le=1)
    codeformer_visibility: float | None = Field(0, ge=0, le=1)
    codeformer_weight: float | None = Field(0, ge=0, le=1)
    upscale_first: bool | None = False
    show_extras_results: bool | None = True


class ExtraSingleBody(ExtraBody):
    image: str = ""


class NamedPicture(A1111Body):
    data: str
    name: str = ""


class ExtraBatchBody(ExtraBody):
    imageList: list[NamedPicture] = Field(max_length=64)


class PngInfoBody(A1111Body):
    image: str


class InterrogateBody(A1111Body):
    image: str = ""
    model: str = "clip"
