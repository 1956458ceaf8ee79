"""Every field of the emulated APIs is supported, refused, or listed with the reason why it may be ignored.

The names are those of the original schemas: the web UI's `/sdapi/v1`, the ControlNet extension's unit,
OpenAI's generations and edits. Each is sent with a value that should have an effect; then the order must
change, or the request be refused, or the reply list the field, or the field be listed as ignorable.
"""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from openai.types.image_edit_params import ImageEditParamsNonStreaming, ImageEditParamsStreaming
from openai.types.image_generate_params import ImageGenerateParamsNonStreaming, ImageGenerateParamsStreaming
from PIL import Image, ImageDraw

from pochade.errors import InvalidRequest
from pochade.jobs.catalogue import Catalogue, Folders, scan_folders
from pochade.prompts.styles import Style
from pochade.server.dialects.a1111 import controlnet_units, unsupported_fields
from pochade.server.dialects.a1111.conversion import submitted_order
from pochade.server.dialects.a1111.schemas import ExtraBatchBody, ExtraSingleBody, ImageBody, TextBody
from pochade.server.dialects.openai import schemas
from pochade.server.middleware import ErrorReply
from pochade.server.uploads import Inputs


def encoded(colour: str = "red", *, mode: str = "RGB", size: tuple[int, int] = (512, 512)) -> str:
    image = Image.new(mode, size, colour)
    ImageDraw.Draw(image).ellipse((100, 100, 300, 300), fill="white")
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


PICTURE, OTHER, MASK = encoded(), encoded("blue"), encoded("black", mode="L")


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    from dataclasses import replace

    found = scan_folders(Folders())
    second = replace(found.models["starter"], name="second")
    return replace(
        found,
        models={**found.models, "second": second},
        controlnets={"edges": Path("edges"), "lines": Path("lines")},
        styles={"ink": Style("ink", "in ink", "")},
        loras=["fox"],
    )


def inputs() -> Inputs:
    def own(picture: str) -> bytes:
        raise InvalidRequest("none")

    return Inputs(own, lambda content: None)


def order_of(catalogue: Catalogue, kind: Any, body: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """What is drawn, and the names that the reply tells."""
    found = submitted_order(kind.model_validate(body), {}, catalogue, inputs())
    order = json.loads(found.order.text())
    return (order, found.inputs, list(found.styles), found.label), list(found.left_out)


# --- the web UI ---------------------------------------------------------------------------------------------

BASE: dict[str, Any] = {
    "prompt": "a fox", "negative_prompt": "blurry", "seed": 1, "subseed": 2, "steps": 4, "width": 512,
    "height": 512,
}  # fmt: skip
OF_BOTH: dict[str, Any] = {
    "prompt": "an owl", "negative_prompt": "snow", "styles": ["ink"], "seed": 5,
    "subseed": ("subseed_strength", 0.5, 9), "subseed_strength": 0.5,
    "seed_resize_from_h": ("seed_resize_from_w", 256, 256),
    "seed_resize_from_w": ("seed_resize_from_h", 256, 256),
    "seed_enable_extras": ("subseed_strength", 0.5, False), "sampler_name": "Heun", "sampler_index": "Heun",
    "scheduler": "Karras", "batch_size": 2, "n_iter": 2, "steps": 9, "cfg_scale": 3.5, "width": 256,
    "height": 256, "restore_faces": True, "tiling": True, "do_not_save_samples": True,
    "do_not_save_grid": True, "eta": ("sampler_name", "Euler a", 0.5), "s_min_uncond": 2.0, "s_churn": 5.0,
    "s_tmax": 10.0, "s_tmin": 0.5, "s_noise": 1.1, "override_settings": {"CLIP_stop_at_last_layers": 2},
    "override_settings_restore_afterwards": None, "refiner_checkpoint": "second", "refiner_switch_at": 0.5,
    "disable_extra_networks": ("prompt", "a <lora:fox:1>", True), "comments": {"a": 1},
    "script_name": "x/y/z plot", "script_args": [1], "send_images": None, "save_images": True,
    "alwayson_scripts": {"adetailer": {"args": [True]}},
    "force_task_id": "mine", "infotext": "a bird\nSteps: 9, Sampler: Heun, CFG scale: 5, Seed: 3",
    "token_merging_ratio": 0.5, "token_merging_ratio_hr": 0.5,
}  # fmt: skip
OF_TEXT: dict[str, Any] = {
    **OF_BOTH, "denoising_strength": 0.3, "enable_hr": False, "hr_scale": 1.5, "hr_upscaler": "Lanczos",
    "hr_second_pass_steps": 3, "hr_resize_x": 768, "hr_resize_y": 768, "hr_checkpoint_name": "second",
    "hr_sampler_name": "Heun", "hr_scheduler": "Karras", "hr_prompt": "an owl", "hr_negative_prompt": "snow",
    "hr_cfg": 3.0, "firstphase_width": ("firstphase_height", 256, 256),
    "firstphase_height": ("firstphase_width", 256, 256), "firstpass_image": PICTURE,
}  # fmt: skip
OF_IMAGE: dict[str, Any] = {
    **OF_BOTH, "init_images": [OTHER], "resize_mode": 1, "denoising_strength": 0.3, "image_cfg_scale": 1.2,
    "mask": encoded("white", mode="L"), "mask_blur": 9, "mask_blur_x": 9, "mask_blur_y": 9,
    "mask_round": False,
    "inpainting_fill": 2, "inpaint_full_res": False, "inpaint_full_res_padding": 64,
    "inpainting_mask_invert": 1, "initial_noise_multiplier": 1.1, "latent_mask": MASK,
    "include_init_images": None,
}  # fmt: skip
OF_REPLY = {
    "send_images": "test_clients: whether the reply holds them",
    "include_init_images": "test_a1111_requests: whether the reply repeats them",
    "override_settings_restore_afterwards": "test_a1111_requests: whether the settings are kept",
}
"""Fields that say something of the reply or of what comes after it, which is not part of an order."""


def sent(base: Mapping[str, Any], name: str, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Bodies without and with a field. A value (other, its value, value) counts beside another field only."""
    if not isinstance(value, tuple):
        return dict(base), {**base, name: value}
    other, given, value = value
    beside = {**base, other: given}
    alone = dict(base) if name.startswith("firstphase") else beside  # one of them alone is refused
    return alone, {**beside, name: value}


@pytest.mark.parametrize(
    ("kind", "base", "name", "value"),
    [(TextBody, {**BASE, "enable_hr": True}, *field) for field in OF_TEXT.items()]
    + [(ImageBody, {**BASE, "init_images": [PICTURE], "mask": MASK}, *field) for field in OF_IMAGE.items()],
    ids=[f"txt2img-{name}" for name in OF_TEXT] + [f"img2img-{name}" for name in OF_IMAGE],
)
def test_the_web_ui(catalogue: Catalogue, kind: Any, base: dict[str, Any], name: str, value: Any) -> None:
    assert name in kind.model_fields, "it would be left out as unknown"
    without, with_it = sent(base, name, value)
    if name in OF_REPLY:
        return
    try:
        changed, told = order_of(catalogue, kind, with_it)
    except (ErrorReply, InvalidRequest) as refused:
        assert name not in unsupported_fields.IGNORABLE
        assert isinstance(refused, ErrorReply) and 400 <= refused.status < 500
        assert name in (refused.field, *refused.message.split())
        return
    done = changed != order_of(catalogue, kind, without)[0]
    assert done != (name in unsupported_fields.IGNORABLE), (name, told)


@pytest.mark.parametrize(
    "name", ["unheard_of", "distilled_cfg_scale", "hr_distilled_cfg", "hr_additional_modules"]
)
def test_what_is_unknown_is_named(catalogue: Catalogue, name: str) -> None:
    assert order_of(catalogue, TextBody, {**BASE, name: 1})[1] == [name]


OF_EXTRAS: dict[str, Any] = {
    "resize_mode": 1, "show_extras_results": False, "gfpgan_visibility": 0.5, "codeformer_visibility": 0.5,
    "codeformer_weight": 0.5, "upscaling_resize": 3.0, "upscaling_resize_w": 256, "upscaling_resize_h": 256,
    "upscaling_crop": False, "upscaler_1": "Lanczos", "upscaler_2": "Lanczos",
    "extras_upscaler_2_visibility": 0.5, "upscale_first": True, "image": PICTURE, "imageList": [],
}  # fmt: skip
EXTRAS_DONE = (
    "resize_mode", "upscaling_resize", "upscaling_resize_w", "upscaling_resize_h", "upscaling_crop",
    "upscaler_1", "image", "imageList",
)  # fmt: skip


@pytest.mark.parametrize("name", OF_EXTRAS)
def test_extras(name: str) -> None:
    assert name in {**ExtraSingleBody.model_fields, **ExtraBatchBody.model_fields}
    beside = {"extras_upscaler_2_visibility": 0.5} if name == "upscaler_2" else {"upscaler_2": "Lanczos"}
    body = ExtraSingleBody.model_validate({**beside, name: OF_EXTRAS[name]})
    try:
        unsupported_fields.refuse(body)
    except ErrorReply as refused:
        assert refused.status == 422 and name not in (*EXTRAS_DONE, *unsupported_fields.IGNORABLE)
    else:
        assert (name in EXTRAS_DONE) != (name in unsupported_fields.IGNORABLE)


# --- the ControlNet extension -------------------------------------------------------------------------------

UNIT: dict[str, Any] = {"enabled": True, "image": PICTURE, "model": "edges", "module": "canny", "weight": 1.0}
OF_UNIT: dict[str, Any] = {
    "is_ui": True, "input_mode": "batch", "batch_images": "a folder", "output_dir": "/tmp", "loopback": True,
    "enabled": False, "module": "invert", "model": "lines", "weight": 0.5, "image": OTHER,
    "input_image": ("image", None, OTHER), "resize_mode": "Just Resize", "low_vram": True, "lowvram": True,
    "processor_res": 256, "threshold_a": 50, "threshold_b": 150, "guidance_start": 0.2, "guidance_end": 0.8,
    "guidance": 0.8, "pixel_perfect": ("processor_res", 256, True),
    "control_mode": "ControlNet is more important",
    "inpaint_crop_input_image": False, "hr_option": "High res only", "save_detected_map": False,
    "advanced_weighting": [1.0] * 13, "effective_region_mask": MASK, "pulid_mode": "Style",
    "ipadapter_input": ["aGVsbG8="], "mask": MASK, "mask_image": MASK, "guessmode": True,
    "use_preview_as_input": True, "batch_image_dir": "a", "batch_mask_dir": "a", "batch_input_gallery": ["a"],
    "batch_mask_gallery": ["a"], "generated_image": PICTURE, "union_control_type": "Canny",
    "animatediff_batch": True, "batch_modifiers": [1], "batch_image_files": ["a"], "batch_keyframe_idx": [1],
    "image_fg": PICTURE, "mask_image_fg": MASK,
}  # fmt: skip


@pytest.mark.parametrize("name", OF_UNIT)
def test_units_of_the_controlnet_extension(catalogue: Catalogue, name: str) -> None:
    """In a request that draws the masked part only, where every field counts."""

    def order(unit: dict[str, Any]) -> tuple[Any, list[str]]:
        scripts = {"ControlNet": {"args": [unit]}}
        over = {**BASE, "init_images": [PICTURE], "mask": MASK, "alwayson_scripts": scripts}
        return order_of(catalogue, ImageBody, over)

    ours = controlnet_units.ALIASES.get(name, name)
    assert ours in controlnet_units.KNOWN
    without, with_it = sent(UNIT, name, OF_UNIT[name])
    try:
        changed, told = order(with_it)
    except ErrorReply as refused:
        assert refused.status == 422 and ours not in controlnet_units.IGNORABLE
        return
    assert told == []
    assert (changed != order(without)[0]) != (ours in controlnet_units.IGNORABLE)


def test_an_unknown_field_of_a_unit_is_named(catalogue: Catalogue) -> None:
    scripts = {"controlnet": {"args": [{**UNIT, "unheard_of": 1}]}}
    assert order_of(catalogue, TextBody, {**BASE, "alwayson_scripts": scripts})[1] == [
        "controlnet.unheard_of"
    ]


# --- OpenAI -------------------------------------------------------------------------------------------------

OF_OPENAI: dict[str, Any] = {
    "prompt": "an owl", "background": "transparent", "complexity": "high", "frame_count": 4,
    "frame_duration_ms": 100, "model": "second", "moderation": "low", "n": 2, "output_compression": 50,
    "output_format": "webp", "partial_images": ("stream", True, 2), "quality": "high",
    "response_format": "url", "safety_identifier": "me", "size": "256x256", "style": "natural",
    "svg": {"a": 1}, "user": "me", "stream": True, "input_fidelity": "high", "effort": "high",
    "reasoning": {"effort": "high"},
    "seed": 5, "steps": 3, "negative_prompt": "snow", "cfg_scale": 3.0, "sampler": "Heun",
    "schedule": "Karras", "strength": 0.3,
}  # fmt: skip
FILES = {"image": "test_clients", "mask": "test_clients", "markup": "test_links: refused"}
"""Parts of a form that are files."""
OF_OPENAI_REPLY = ("output_format", "output_compression", "response_format", "stream")


def test_the_client_names_no_other_fields() -> None:
    named: set[str] = set()
    for kind in (
        ImageEditParamsNonStreaming, ImageEditParamsStreaming, ImageGenerateParamsNonStreaming,
        ImageGenerateParamsStreaming,
    ):  # fmt: skip
        named |= set(kind.__annotations__)
    assert named <= {*OF_OPENAI, *FILES}


@pytest.mark.parametrize("name", OF_OPENAI)
def test_openai(catalogue: Catalogue, name: str) -> None:
    base = {"prompt": "a fox"}
    if name == "output_compression":
        base["output_format"] = "webp"
    without, with_it = sent(base, name, OF_OPENAI[name])

    def seen(values: dict[str, Any]) -> tuple[Any, ...]:
        body = schemas.ImagesBody.model_validate(values)
        order = schemas.submitted_order(body, catalogue, inputs(), None).order.text()
        return order, *(getattr(body, each) for each in OF_OPENAI_REPLY), body.left_out

    assert name in schemas.ImagesBody.model_fields
    try:
        changed = seen(with_it)
    except ErrorReply as refused:
        assert 400 <= refused.status < 500 and refused.field == name
        return
    assert (changed != seen(without)) != (name in schemas.IGNORABLE and name != "partial_images")


def test_every_reason_is_a_sentence() -> None:
    for table in (unsupported_fields.IGNORABLE, controlnet_units.IGNORABLE, schemas.IGNORABLE):
        assert all(len(reason) > 5 for reason in table.values())


def test_no_field_that_is_read_is_left_out_here() -> None:
    """A field that is added to a schema is walked over too."""
    aliases = {controlnet_units.ALIASES.get(name, name) for name in OF_UNIT}
    assert set(TextBody.model_fields) <= set(OF_TEXT)
    assert set(ImageBody.model_fields) <= set(OF_IMAGE)
    assert {*ExtraSingleBody.model_fields, *ExtraBatchBody.model_fields} <= set(OF_EXTRAS)
    assert set(controlnet_units.KNOWN) <= aliases
    assert set(schemas.ImagesBody.model_fields) <= set(OF_OPENAI)
