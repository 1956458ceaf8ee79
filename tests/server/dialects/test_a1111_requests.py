"""Requests of A1111's API: scripts, settings, ControlNet units, second passes, numbers."""

import json
import threading
import time
from dataclasses import replace
from typing import Any

import httpx
import pytest

from pochade.errors import InvalidRequest
from pochade.images.preprocessors import canny, preprocessed
from pochade.jobs import limits, orders
from pochade.jobs.catalogue import Catalogue, Folders
from pochade.jobs.job_request import read_job_request
from pochade.jobs.limits import LARGEST_SEED, Limits
from pochade.jobs.pricing import expected_work
from pochade.server import submission
from pochade.server.dialects.a1111.conversion import chosen_of, submitted_order
from pochade.server.dialects.a1111.schemas import ImageBody, TextBody
from pochade.server.dialects.a1111.scripts import OFF, ON, UNKNOWN, state_of
from pochade.server.dialects.a1111.settings import picture_format
from pochade.server.dialects.native.schemas import JobBody
from pochade.server.dialects.openai import schemas
from pochade.server.middleware import ErrorReply
from pochade.server.submission import SubmittedOrder
from tests.server.conftest import Served
from tests.server.dialects.test_fields import MASK, PICTURE, catalogue, encoded, inputs  # noqa: F401

TWICE = {"enable_hr": True, "hr_upscaler": "Lanczos"}


def drawn(found: Catalogue, chosen: dict[str, Any] | None = None, **body: Any) -> SubmittedOrder:
    return submitted_order(TextBody.model_validate(body), chosen or {}, found, inputs())


def refused(found: Catalogue, status: int = 422, **body: Any) -> str:
    with pytest.raises(ErrorReply) as trouble:
        drawn(found, **body)
    assert trouble.value.status == status
    return trouble.value.message


def settled(found: SubmittedOrder, among: Catalogue) -> orders.Order:
    return submission.settled(found, among, lambda count: "00" * count, Limits())


def check(order: orders.Order) -> None:
    limits.check(order, Limits(), (512, 512))


# --- scripts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "script", "state"),
    [
        ("adetailer", {"args": [True, False, {"ad_model": "face_yolov8n.pt"}]}, ON),
        ("ADetailer", {"args": [{"ad_model": "face_yolov8n.pt"}]}, ON),
        ("adetailer", {"args": [{"ad_model": "None"}]}, OFF),
        ("adetailer", {"args": [False, False, {"ad_model": "face_yolov8n.pt"}]}, OFF),
        ("refiner", {"args": [True, "xl-refiner", 0.8]}, ON),
        ("Refiner", {"args": [False, "", 0.8]}, OFF),
        ("anything", {"args": [{"enabled": True}]}, ON),
        ("anything", {"args": [{"enabled": False}]}, OFF),
        ("anything", {"args": [False, {"enabled": True}]}, ON),
        ("anything", {"args": [{"enabled": False}, {"enabled": True}]}, ON),
        ("anything", {"args": {"enabled": True}}, ON),
        ("anything", {"args": ["True"]}, ON),
        ("anything", {"args": ["false", 1]}, OFF),
        ("anything", {"enabled": True}, ON),
        ("anything", {"args": [], "enabled": True}, ON),
        ("anything", {"args": [0.5], "enabled": True}, ON),
        ("anything", {"args": [0.5], "enabled": False}, OFF),
        ("anything", {"enable": True}, UNKNOWN),
        ("anything", {"Args": [True]}, UNKNOWN),
        ("anything", {"args": []}, OFF),
        ("anything", {}, OFF),
        ("anything", None, OFF),
        ("sampler", {"args": [20, "Euler", "Automatic"]}, UNKNOWN),
        ("anything", {"args": [{"strength": 1}]}, UNKNOWN),
        ("anything", "on", UNKNOWN),
    ],
)
def test_whether_a_script_is_on(catalogue: Catalogue, name: str, script: Any, state: str) -> None:  # noqa: F811
    assert state_of(name, script) == state
    scripts = {name: script}
    if state == ON:
        assert f"always on script {name} not found" in refused(catalogue, alwayson_scripts=scripts)
    else:
        assert drawn(catalogue, alwayson_scripts=scripts).left_out == ([name] if state == UNKNOWN else [])


# --- settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "layers"), [(2, 2), ("2", 2), (2.0, 2), ("3.0", 3), (0, 1), ("", 1), (None, 1), (12, 12)]
)
def test_clip_skip_comes_as_a_number_or_as_text(catalogue: Catalogue, given: Any, layers: int) -> None:  # noqa: F811
    settings = {"CLIP_stop_at_last_layers": given}
    assert drawn(catalogue, override_settings=settings).order.request.clip_skip == layers
    if given not in (None, ""):
        assert chosen_of(settings, catalogue) == settings | {"CLIP_stop_at_last_layers": layers}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLIP_stop_at_last_layers", 13), ("CLIP_stop_at_last_layers", "two"),
        ("CLIP_stop_at_last_layers", -1),
        ("sd_vae", "vae-ft-mse.safetensors"), ("eta_noise_seed_delta", 31337), ("samples_format", "gif"),
        ("token_merging_ratio", 0.5), ("img2img_fix_steps", True), ("jpeg_quality", 0), ("eta_ancestral", 3),
    ],
)  # fmt: skip
def test_settings_that_are_not_here_are_refused(catalogue: Catalogue, name: str, value: Any) -> None:  # noqa: F811
    body = {"override_settings": {name: value}, "sampler_name": "Euler a"}
    assert name.partition("_")[0] in refused(catalogue, **body)


def test_a_model_whose_name_is_no_text_is_none_that_is_here(catalogue: Catalogue) -> None:  # noqa: F811
    for name in (123, ["second"], True):
        with pytest.raises(InvalidRequest, match="is unknown; one of: starter, second"):
            drawn(catalogue, override_settings={"sd_model_checkpoint": name})


def test_settings_as_they_are_here_and_those_that_say_nothing_of_pictures(catalogue: Catalogue) -> None:  # noqa: F811
    usual = {
        "sd_vae": "Automatic", "randn_source": "GPU", "eta_noise_seed_delta": "0", "img2img_fix_steps": False,
        "samples_save": False, "outdir_txt2img_samples": "x", "return_grid": True, "token_merging_ratio": 0.0,
        "emphasis": "original",
    }  # fmt: skip
    assert drawn(catalogue, override_settings=usual).left_out == []
    unknown = drawn(catalogue, override_settings={"unheard_of": 1}, styles=["ink", "nope"])
    assert list(unknown.left_out) == ["override_settings.unheard_of", "styles.nope"]
    assert list(unknown.styles) == ["ink"]


def test_settings_of_eta_and_of_the_format(catalogue: Catalogue) -> None:  # noqa: F811
    settings = {"eta_ancestral": 0.5, "eta_ddim": "0.25"}
    for name, sampler, eta in (("Euler a", None, 0.5), ("DDIM", None, 0.25), ("Euler a", 0.0, 0.0)):
        found = drawn(catalogue, override_settings=settings, sampler_name=name, eta=sampler)
        assert found.order.request.eta == eta
    assert picture_format({"samples_format": "JPG", "jpeg_quality": "70"}) == ("JPEG", 70)
    assert picture_format({}) == ("PNG", 80)


def test_no_fresh_noise_is_euler(catalogue: Catalogue) -> None:  # noqa: F811
    import numpy as np

    from pochade.diffusion.samplers import find_sampler

    asked_for = drawn(catalogue, sampler_name="Euler a", eta=0).order.request
    assert asked_for.eta == 0.0
    start, levels = np.ones((1, 4, 2, 2), np.float32), [10.0, 3.0, 1.0, 0.0]

    def last(name: str, **options: float) -> Any:
        def denoise(x: Any, sigma: float) -> Any:
            return x / (1 + sigma)

        noise = np.random.default_rng(0).standard_normal
        sampler = find_sampler(name)
        *_, step = sampler.function(denoise, start, levels, lambda: noise(start.shape, np.float32), **options)
        return step.x

    np.testing.assert_allclose(last("Euler a", eta=asked_for.eta), last("Euler"), rtol=1e-6)
    assert not np.allclose(last("Euler a"), last("Euler"))


# --- numbers ----------------------------------------------------------------------------------------------


def test_numbers_with_a_fraction_are_cut(catalogue: Catalogue) -> None:  # noqa: F811
    request = drawn(catalogue, width=127.6, height="256", steps=4.9, seed=7.0, prompt=5).order.request
    assert (request.width, request.height, request.steps) == (120, 256, 4)
    assert (request.seed, request.prompt) == (7, "5")
    body = {"init_images": [PICTURE], "mask": MASK, "mask_blur": 3.7, "inpaint_full_res_padding": 31.9}
    source = submitted_order(ImageBody.model_validate(body), {}, catalogue, inputs()).order.request.source
    assert (source.mask_blur, source.padding) == (3, 31)
    for wrong in ("wide", float("inf"), float("nan"), [1]):
        with pytest.raises(ValueError, match="width"):
            TextBody.model_validate({"width": wrong})


def test_blurs_that_differ_and_latents_that_are_resized_are_refused(catalogue: Catalogue) -> None:  # noqa: F811
    over = {"init_images": [PICTURE], "mask": MASK}
    for more, message in (
        ({"mask_blur_x": 2, "mask_blur_y": 9}, "mask_blur_y 9"),
        ({"resize_mode": 3, "width": 256}, "resize_mode 3"),
    ):
        with pytest.raises(ErrorReply, match=message):
            submitted_order(ImageBody.model_validate({**over, **more}), {}, catalogue, inputs())
    same = {**over, "resize_mode": 3, "width": 512, "height": 512}
    assert submitted_order(ImageBody.model_validate(same), {}, catalogue, inputs()).order.request.source


@pytest.mark.parametrize("count", [1, 2, 8])
def test_the_last_seed_has_a_bound_that_is_checked_at_once(catalogue: Catalogue, count: int) -> None:  # noqa: F811
    last = LARGEST_SEED - count + 1
    variation = {"subseed_strength": 0.5, "subseed": LARGEST_SEED}
    for good, body in (
        (True, {"seed": last, "n_iter": count}),
        (True, {"seed": last, "batch_size": count}),
        (count == 1, {"seed": LARGEST_SEED, "n_iter": count}),
        (count == 1, {"seed": LARGEST_SEED, "batch_size": count}),
        (count == 1, {**variation, "seed": 1, "n_iter": count}),
    ):
        order = settled(drawn(catalogue, **body), catalogue)
        if good:
            check(order)
        else:
            with pytest.raises(InvalidRequest, match=rf"seed is {LARGEST_SEED}; .* \(2\^63 - {count}\)"):
                check(order)
    images = schemas.ImagesBody(prompt="a", n=2, seed=LARGEST_SEED)
    with pytest.raises(InvalidRequest, match="seed is"):
        check(settled(schemas.submitted_order(images, catalogue, inputs(), None), catalogue))


# --- a second pass ----------------------------------------------------------------------------------------


def test_a_second_pass_of_strength_0_stays_one(catalogue: Catalogue) -> None:  # noqa: F811
    hires = drawn(catalogue, **TWICE, denoising_strength=0).order.request.hires
    assert hires.denoising_strength == 0


def test_the_second_pass_has_settings_of_its_own(catalogue: Catalogue) -> None:  # noqa: F811
    own = {
        "hr_prompt": "an owl", "hr_negative_prompt": "snow", "hr_sampler_name": "DPM++ 2M Karras",
        "hr_checkpoint_name": "second [0123456789]", "hr_cfg": 4.5,
    }  # fmt: skip
    found = drawn(catalogue, **TWICE, **own, styles=["ink"])
    hires = settled(found, catalogue).request.hires
    assert {**vars(hires), "scale": 2.0} == {
        "scale": 2.0, "size": None, "upscaler": "Lanczos", "steps": None, "denoising_strength": 0.75,
        "prompt": "an owl, in ink", "negative_prompt": "snow", "sampler": "DPM++ 2M", "schedule": "Karras",
        "cfg_scale": 4.5, "model": "second",
    }  # fmt: skip
    for name in ("hr_sampler_name", "hr_scheduler"):
        assert "Sampler not found" in refused(catalogue, 400, **TWICE, **{name: "magic"})


def test_what_stands_for_the_first_pass(catalogue: Catalogue) -> None:  # noqa: F811
    same = {
        "hr_prompt": "", "hr_negative_prompt": "", "hr_sampler_name": "Use same sampler",
        "hr_scheduler": "Use same scheduler", "hr_checkpoint_name": "Use same checkpoint",
    }  # fmt: skip
    hires = drawn(catalogue, **TWICE, **same).order.request.hires
    names = ("prompt", "negative_prompt", "sampler", "schedule", "cfg_scale", "model")
    assert {getattr(hires, name) for name in names} == {None}
    found = drawn(catalogue, **TWICE, hr_checkpoint_name="starter")
    assert settled(found, catalogue).request.hires.model is None
    assert drawn(catalogue, hr_prompt="an owl").order.request.hires is None  # it is not switched on


def test_its_names_and_lengths_are_checked_at_once(catalogue: Catalogue) -> None:  # noqa: F811
    for own, message in (
        ({"hr_prompt": "<lora:nope:1>"}, "LoRA 'nope' is unknown"),
        ({"hr_checkpoint_name": "nope"}, "model 'nope' is unknown"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            settled(drawn(catalogue, **TWICE, **own), catalogue)
    for text, message in (
        ("a" * 20_001, r"hires\.prompt has 20,001 characters"),
        ("<lora:x:1>" * 33, r"hires\.prompt has 33 LoRAs"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            settled(drawn(catalogue, **TWICE, seed=1, hr_prompt=text), catalogue)
    wrong = drawn(catalogue, **TWICE, seed=1)
    for name in ("sampler", "schedule"):
        hires = replace(wrong.order.request.hires, **{name: "magic"})
        order = replace(wrong.order, request=replace(wrong.order.request, hires=hires))
        with pytest.raises(InvalidRequest, match=f"{name} 'magic' is unknown"):
            submission.check(order, [], catalogue, Limits(), (512, 512))


def test_its_templates_are_expanded_and_its_work_is_counted() -> None:
    from pochade.jobs.catalogue import scan_folders

    names = scan_folders(Folders())
    hires = {"prompt": "{owl|fox|hare}", "negative_prompt": "{snow|rain}", "sampler": "Heun", "cfg_scale": 1}
    request = {
        "prompt": "{owl|fox|hare}", "negative_prompt": "", "seed": 3, "steps": 4, "batch_size": 1,
        "hires": hires, "sampler": "Euler", "width": 64, "height": 64,
    }  # fmt: skip
    order = orders.Order(
        kind="txt2img", model="starter", request=read_job_request(request), count=4, expand=True
    )
    first = orders.request_of(order, lambda number: None, names)  # type: ignore[arg-type, return-value]
    found = list(orders.batches(order, first, names))
    assert all(each.hires is not None and each.hires.prompt == each.prompt for each in found)
    assert len({each.prompt for each in found}) > 1 and "{" not in str(found[0].hires)
    assert expected_work(order).evaluations == 4 * 2 + 4 * 2 * 1 * 4  # Heun twice a step, four times the size


def test_the_first_pass_size_of_old_clients(catalogue: Catalogue) -> None:  # noqa: F811
    request = drawn(
        catalogue, **TWICE, width=768, height=640, firstphase_width=384, firstphase_height=320
    ).order.request
    assert (request.width, request.height, request.hires.size) == (384, 320, (768, 640))
    assert "must be given together" in refused(catalogue, **TWICE, firstphase_width=384)


def test_a_model_of_a_second_pass_that_is_not_here_is_left_out(catalogue: Catalogue) -> None:  # noqa: F811
    from pochade.images.metadata import read_parameters
    from pochade.server.views import _request

    for name, left_out in (("second [abc]", []), ("nope", ["hires_model"])):
        text = (
            "a\nSteps: 4, Sampler: Euler, Seed: 1, Size: 64x64, Model: starter, Hires upscale: 2, "
            f"Hires prompt: an owl, Hires checkpoint: {name}"
        )
        request, told = _request(text, read_parameters(text), catalogue)
        assert request is not None and request["hires"]["prompt"] == "an owl" and told == left_out
        assert request["hires"]["model"] == (None if left_out else "second")


# --- a parameters text ------------------------------------------------------------------------------------


def test_a_text_fills_in_what_is_not_sent(catalogue: Catalogue) -> None:  # noqa: F811
    text = (
        "a bird\nNegative prompt: snow\nSteps: 9, Sampler: Heun, Schedule type: Karras, CFG scale: 5, "
        "Seed: 3, "
        "Size: 256x320, Model: second, Clip skip: 2, Denoising strength: 0.4, Hires upscale: 1.5, "
        "Hires upscaler: Lanczos, Hires prompt: an owl"
    )
    found = drawn(catalogue, infotext=text, steps=4, override_settings={"CLIP_stop_at_last_layers": 3})
    request = found.order.request
    told = {
        name: getattr(request, name) for name in ("prompt", "negative_prompt", "steps", "sampler", "schedule")
    }
    assert told == {
        "prompt": "a bird", "negative_prompt": "snow", "steps": 4, "sampler": "Heun", "schedule": "Karras",
    }  # fmt: skip
    assert (request.seed, request.width, request.height) == (3, 256, 320)
    assert (request.clip_skip, found.order.model, request.hires.prompt) == (3, "second", "an owl")
    assert (request.hires.scale, request.hires.denoising_strength) == (1.5, 0.4)
    comma = drawn(catalogue, infotext=text.replace("strength: 0.4", "strength: 0,4"))
    assert comma.order.request.hires.denoising_strength == 0.4
    for wrong in ("Steps: many", "Denoising strength: much", "Denoising strength: nan"):
        with pytest.raises(InvalidRequest, match=wrong):
            drawn(catalogue, infotext=f"a\nSteps: 4, Seed: 1, Size: 64x64, {wrong}")


def test_a_text_fills_in_noise_and_emphasis_and_names_what_it_cannot(catalogue: Catalogue) -> None:  # noqa: F811
    plain = "a bird\nSteps: 9, Seed: 3, Size: 64x64"
    chosen = {"randn_source": "CPU"}
    found = drawn(catalogue, infotext=f"{plain}, RNG: CPU, Emphasis: No norm, ENSD: 31337, CFG Rescale: 0.5")
    request = found.order.request
    assert (request.rng, request.emphasis) == ("CPU", "No norm")
    assert {"infotext.ENSD", "infotext.CFG Rescale"} <= set(found.left_out)
    usual = drawn(catalogue, infotext=plain, override_settings={**chosen})
    assert usual.order.request.rng == "CPU"
    assert drawn(catalogue, infotext=plain).order.request.rng == "NV"
    assert drawn(catalogue, override_settings={"randn_source": ""}).order.request.rng == "NV"


def test_a_text_of_a_masked_picture_fills_in_what_it_says_of_the_mask(catalogue: Catalogue) -> None:  # noqa: F811
    text = (
        "a bird\nSteps: 9, Seed: 3, Size: 512x512, Denoising strength: 0.3, Mask blur: 9, "
        "Masked content: latent noise, Inpaint area: Only masked, Masked area padding: 48"
    )

    def source(text: str, **body: Any) -> dict[str, Any]:
        sent = {"init_images": [PICTURE], "mask": MASK, "infotext": text, **body}
        found = submitted_order(ImageBody.model_validate(sent), {}, catalogue, inputs())
        assert found.left_out == []
        return dict(vars(found.order.request.source))

    told = source(text)
    names = ("denoising_strength", "mask_blur", "fill", "only_masked", "padding")
    assert [told[name] for name in names] == [0.3, 9.0, "noise", True, 48]
    sent = source(text, mask_blur_x=2, mask_blur_y=2, inpainting_fill=3, inpaint_full_res=False)
    assert [sent[name] for name in names] == [0.3, 2.0, "nothing", False, 48]
    plain = source("a bird\nSteps: 9, Seed: 3, Size: 512x512, Denoising strength: 0.3, Mask blur: 9")
    assert [plain[name] for name in names] == [0.3, 9.0, "original", False, 0]
    ours = source(text.replace("latent noise", "surroundings"))
    assert ours["fill"] == "surroundings"
    for wrong in ("Mask blur: much", "Masked area padding: -1", "Masked content: magic"):
        with pytest.raises(InvalidRequest, match=wrong):
            source(f"a\nSteps: 4, Seed: 1, Size: 64x64, {wrong}")


def test_what_a_text_says_of_another_kind_of_request_is_named(catalogue: Catalogue) -> None:  # noqa: F811
    plain = "a bird\nSteps: 9, Seed: 3, Size: 64x64"
    over = "Denoising strength: 0.4, Mask blur: 4"
    steered = 'ControlNet 0: "Module: canny, Model: edges, Weight: 1"'
    twice = "Denoising strength: 0.4, Hires upscale: 2, Hires sampler: Heun"
    for more, named in (
        (over, ["infotext.Denoising strength", "infotext.Mask blur"]),
        (steered, ["infotext.ControlNet 0"]),
        (twice, []),
    ):
        assert list(drawn(catalogue, infotext=f"{plain}, {more}").left_out) == named
    for more, named in ((over, []), (twice, ["infotext.Hires upscale", "infotext.Hires sampler"])):
        body = {"init_images": [PICTURE], "infotext": f"{plain}, {more}"}
        assert (
            list(submitted_order(ImageBody.model_validate(body), {}, catalogue, inputs()).left_out) == named
        )


# --- units of ControlNets ---------------------------------------------------------------------------------

UNIT = {"image": PICTURE, "model": "edges", "module": "canny", "enabled": True}


def controls(found: Catalogue, *units: Any) -> list[dict[str, Any]]:
    request = drawn(found, alwayson_scripts={"controlnet": {"args": list(units)}}).order.request
    return [dict(vars(control)) for control in request.controls]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "has no model (its module is 'canny')"),
        ({"model": "None", "module": "none"}, "is enabled but has no model"),
        ({"model": None, "enabled": None}, "has no model"),
        ({"image": {"image": PICTURE, "mask": MASK}}, "has a mask, which is not supported"),
        ({"image": [PICTURE, MASK]}, "has a mask, which is not supported"),
        ({"image": [{"image": PICTURE}, {"image": PICTURE}]}, "has 2 images"),
        ({"image": 5}, "not base64 text"),
        ({"mask_image": MASK}, "masks and modes"),
        ({"hr_option": "sometimes"}, "hr_option 'sometimes'"),
        ({"mask": MASK, "mask_image": None}, "masks and modes"),
        ({"mask": None, "mask_image": MASK}, "masks and modes"),
        ({"input_image": encoded("blue")}, "has image twice, as 'input_image' too"),
        ({"control_mode": 1}, "masks and modes"),
        ({"mask_image_fg": MASK}, "has mask_image_fg"),
        ({"module": "depth_midas"}, "preprocessor 'depth_midas' is unknown"),
        ({"threshold_a": "low"}, "threshold_a is 'low'"),
        ({"processor_res": 10**400}, "values must be numbers"),
    ],
)
def test_units_that_are_on_and_cannot_be_done(
    catalogue: Catalogue,  # noqa: F811
    changes: dict[str, Any],
    message: str,
) -> None:
    script = {"args": [{**UNIT, **changes}]}
    assert message in refused(catalogue, alwayson_scripts={"ControlNet": script})


def test_units_that_are_off_or_empty(catalogue: Catalogue) -> None:  # noqa: F811
    off = (
        {**UNIT, "enabled": False},
        {**UNIT, "enabled": "false"},
        {"model": "None", "module": "none"},
        {},
        None,
    )
    assert controls(catalogue, *off) == []
    assert controls(catalogue, {**UNIT, "input_image": None, "mask_image": None}) == controls(catalogue, UNIT)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ({"args": [5]}, "not an object"),
        ("on", "must be a list"),
        (True, "must be a list"),
        ({"args": {"0": UNIT}}, "has no field of a ControlNet unit; its first field is '0'"),
        ({"units": [UNIT]}, "has no field of a ControlNet unit; its first field is 'units'"),
        ({"args": [{"image": PICTURE}]}, "is enabled but has no model"),
    ],
)
def test_units_that_are_no_units(catalogue: Catalogue, script: Any, message: str) -> None:  # noqa: F811
    assert message in refused(catalogue, alwayson_scripts={"controlnet": script})


def test_units_with_and_without_a_list(catalogue: Catalogue) -> None:  # noqa: F811
    for script in ({"args": [UNIT]}, {"args": UNIT}, [UNIT], UNIT, {"model": "edges", "image": PICTURE}):
        request = drawn(catalogue, alwayson_scripts={"ControlNet": script}).order.request
        assert [each.model for each in request.controls] == ["edges"]


def test_truths_of_a_unit_come_as_text_and_numbers_too(catalogue: Catalogue) -> None:  # noqa: F811
    for truth in (True, "true", "True", 1):
        (control,) = controls(catalogue, {**UNIT, "processor_res": 256, "pixel_perfect": truth})
        assert control["resolution"] is None
    body = {"init_images": [PICTURE], "mask": MASK}
    for truth in (False, "false", 0):
        scripts = {"controlnet": {"args": [{**UNIT, "inpaint_crop_input_image": truth}]}}
        with pytest.raises(ErrorReply, match="inpaint_crop_input_image"):
            submitted_order(
                ImageBody.model_validate({**body, "alwayson_scripts": scripts}), {}, catalogue, inputs()
            )


def test_a_mask_in_which_nothing_is_marked_asks_for_nothing(catalogue: Catalogue) -> None:  # noqa: F811
    from PIL import Image

    from tests.server.conftest import encoded as written

    black = written(Image.new("L", (64, 64), 0))
    for image in ({"image": PICTURE, "mask": black}, [PICTURE, black], {"image": PICTURE, "mask": None}):
        assert len(controls(catalogue, {**UNIT, "image": image})) == 1


@pytest.mark.parametrize(
    ("unit", "thresholds", "resolution"),
    [
        ({}, None, None),
        ({"threshold_a": 64, "threshold_b": 64, "processor_res": 512}, None, None),  # as older clients send
        ({"threshold_a": 50, "threshold_b": 150, "processor_res": 256}, (50.0, 150.0), 256),
        ({"threshold_a": 50}, (50.0, 200.0), None),
        ({"threshold_a": -1, "threshold_b": -1, "processor_res": -1}, None, None),
        ({"processor_res": 256, "pixel_perfect": True}, None, None),
        ({"module": "invert", "threshold_a": 50, "threshold_b": 150}, None, None),
        ({"module": "none", "processor_res": 256}, None, None),
    ],
)
def test_what_a_preprocessor_is_told(
    catalogue: Catalogue,  # noqa: F811
    unit: dict[str, Any],
    thresholds: Any,
    resolution: Any,
) -> None:
    (control,) = controls(catalogue, {**UNIT, **unit})
    assert (control["thresholds"], control["resolution"]) == (thresholds, resolution)


def test_the_passes_of_a_unit(catalogue: Catalogue) -> None:  # noqa: F811
    words: dict[Any, str] = {
        "Both": "both", "Low res only": "first", "High res only": "second", None: "both", "": "both",
        0: "both", 1: "first", 2.0: "second", "HiResFixOption.LOW_RES_ONLY": "first",
    }  # fmt: skip
    assert [controls(catalogue, {**UNIT, "hr_option": word})[0]["passes"] for word in words] == [
        *words.values()
    ]


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        (0, "stretch"), (1, "crop"), (2, "fill"), (2.0, "fill"), ("1", "crop"), ("Just Resize", "stretch"),
        ("Scale to Fit (Inner Fit)", "crop"), ("Envelope (Outer Fit)", "fill"), ("Resize and Fill", "fill"),
        (None, "crop"),
    ],
)  # fmt: skip
def test_how_a_units_picture_is_resized(catalogue: Catalogue, given: Any, mode: str) -> None:  # noqa: F811
    assert controls(catalogue, {**UNIT, "resize_mode": given})[0]["resize_mode"] == mode
    with pytest.raises(ErrorReply, match="resize_mode is '7'"):
        controls(catalogue, {**UNIT, "resize_mode": 7})
    for latents in (3, "3", 3.0, "Just Resize (Latent Upscale)"):
        with pytest.raises(ErrorReply, match="resizes latents"):
            controls(catalogue, {**UNIT, "resize_mode": latents})


def test_empty_tables_come_as_empty_lists(catalogue: Catalogue) -> None:  # noqa: F811
    assert drawn(catalogue, override_settings=[], alwayson_scripts=[]).left_out == []


def test_thresholds_of_canny_in_the_measure_of_other_tools() -> None:
    from PIL import Image, ImageDraw, ImageFilter

    image = Image.new("RGB", (64, 64), "gray")
    ImageDraw.Draw(image).rectangle((16, 16, 48, 48), fill=(160, 160, 160))
    image = image.filter(ImageFilter.GaussianBlur(1))
    assert preprocessed(image, "canny", (100.0, 200.0)) == canny(image)
    assert preprocessed(image, "canny", (50.0, 150.0)) == canny(image, 25.0, 75.0)
    edges = [sum(preprocessed(image, "canny", pair).convert("L").tobytes()) for pair in ((1, 1), (255, 255))]
    assert edges[0] > edges[1]


# --- over HTTP --------------------------------------------------------------------------------------------


def test_an_interrupt_ends_jobs_of_its_own_dialect_only(quick: Served) -> None:
    native = quick.submit(prompt="0.05 slow", steps=100)
    quick.until(native["id"], "running")
    assert quick.http.get("/sdapi/v1/progress").json()["state"]["job_count"] == 0
    for route in ("interrupt", "skip"):
        assert quick.http.post(f"/sdapi/v1/{route}").status_code == 200
    time.sleep(0.3)
    assert quick.job(native["id"])["state"] == "running"
    replies: list[httpx.Response] = []
    body = {"prompt": "0.05 slow", "steps": 100, "force_task_id": "theirs"}
    waiting = threading.Thread(target=lambda: replies.append(quick.http.post("/sdapi/v1/txt2img", json=body)))
    quick.http.post(f"/api/v1/jobs/{native['id']}/cancel")
    waiting.start()
    with httpx.Client(base_url=quick.url) as other:
        while other.get("/sdapi/v1/progress").json()["state"]["sampling_step"] == 0:
            time.sleep(0.02)
        other.post("/sdapi/v1/interrupt")
    waiting.join(30)
    assert len(replies[0].json()["images"]) == 1


def test_what_the_reply_repeats_and_names(quick: Served) -> None:
    body = {
        "prompt": "a", "steps": 2, "unheard_of": 1, "alwayson_scripts": {"sampler": {"args": [20]}},
        "override_settings": {"unheard_of": 2, "samples_format": "jpg"},
    }  # fmt: skip
    reply = quick.http.post("/sdapi/v1/txt2img", json=body).json()
    named = json.loads(reply["info"])["left_out"]
    assert named == ["sampler", "override_settings.unheard_of", "unheard_of"]
    assert "unheard_of" not in reply["parameters"] and reply["images"][0].startswith("/9j/")
    over = {**body, "init_images": [encoded()], "include_init_images": True}
    assert quick.http.post("/sdapi/v1/img2img", json=over).json()["parameters"]["init_images"] == [encoded()]


def test_settings_that_are_kept(quick: Served) -> None:
    def layers() -> Any:
        return quick.http.get("/sdapi/v1/options").json()["CLIP_stop_at_last_layers"]

    body = {"prompt": "a", "steps": 1, "override_settings": {"CLIP_stop_at_last_layers": "2"}}
    quick.http.post("/sdapi/v1/txt2img", json=body)
    assert layers() == 1
    quick.http.post("/sdapi/v1/txt2img", json={**body, "override_settings_restore_afterwards": False})
    assert layers() == 2
    quick.http.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 1})
    assert layers() == 1
    wrong = quick.http.post("/sdapi/v1/options", json={"sd_vae": "other.safetensors"})
    assert wrong.status_code == 422 and "sd_vae" in wrong.json()["detail"]
    known = quick.http.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 1, "samples_save": True})
    assert known.json() is None
    unknown = quick.http.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 1, "unheard_of": 1})
    assert unknown.status_code == 200 and unknown.json() == {"left_out": ["unheard_of"]}


def test_lists_of_the_controlnet_extension(quick: Served) -> None:
    get = quick.http.get
    assert get("/controlnet/version").json() == {"version": 3}
    assert get("/controlnet/model_list?update=true").json() == {"model_list": []}
    modules = get("/controlnet/module_list?alias_names=1").json()
    assert modules["module_list"][:2] == ["none", "canny"] and "canny" in modules["module_detail"]
    assert "canny" in get("/controlnet/control_types").json()["control_types"]["All"]["module_list"]
    assert get("/controlnet/settings").json()["control_net_unit_count"] == 8
    assert get("/controlnet/nothing").json()["detail"] == "Not Found"


def test_what_a_preprocessor_finds(quick: Served) -> None:
    from tests.server.conftest import decoded

    body = {
        "controlnet_module": "canny",
        "controlnet_input_images": [PICTURE],
        "controlnet_processor_res": 128,
    }
    reply = quick.http.post("/controlnet/detect", json=body).json()
    assert decoded(reply["images"][0]).size == (128, 128) and reply["info"] == "Success"
    assert set(reply) == {"images", "info"}
    more = quick.http.post("/controlnet/detect", json={**body, "unheard_of": 1}).json()
    assert more["left_out"] == ["unheard_of"]
    for changes in (
        {"controlnet_module": "magic"}, {"controlnet_input_images": []}, {"controlnet_masks": [MASK]},
        {"controlnet_input_images": ["nothing"]},
    ):  # fmt: skip
        wrong = quick.http.post("/controlnet/detect", json={**body, **changes})
        assert wrong.status_code == 422 and set(wrong.json()) == {"error", "detail", "body", "errors"}


def test_the_lists_need_a_key_where_there_are_keys(shared: Served) -> None:
    reply = shared.http.get("/controlnet/model_list")
    assert reply.status_code == 401 and reply.headers["www-authenticate"].startswith("Basic")


def test_the_native_api_names_what_is_unknown(quick: Served) -> None:
    sent = {"prompt": "a", "steps": 1, "sampler_name": "Euler", "hires": {"scale": 2.0, "hr_cfg": 3}}
    assert quick.submit(**sent)["left_out"] == ["sampler_name", "hires.hr_cfg"]
    assert "left_out" not in quick.submit(prompt="a", steps=1)


def test_the_native_api_names_what_has_no_effect() -> None:
    def told(**body: Any) -> list[str]:
        return JobBody.model_validate({"prompt": "a", **body}).left_out

    over = {"image": PICTURE, "fill": "noise", "mask_blur": 2.0, "padding": 8}
    assert told(source=over) == ["source.mask_blur", "source.fill", "source.padding"]
    assert told(source={**over, "mask": MASK}) == ["source.padding"]
    assert told(source={**over, "mask": MASK, "only_masked": True}) == []
    assert told(source={**over, "outpaint": {"left": 8}}) == ["source.padding"]
    assert told(variation={"seed": 5}) == ["variation.seed"]
    assert told(variation={"seed": 5, "strength": 0.1}) == []
    assert told(hires={"scale": 3.0, "size": [64, 64]}) == ["hires.scale"]
    unit = {"image": PICTURE, "model": "edges", "passes": "first", "thresholds": [1, 2]}
    assert told(controls=[unit]) == ["controls[0].passes", "controls[0].thresholds"]
    assert told(controls=[{**unit, "preprocessor": "canny"}], hires={}) == []
    larger = {"kind": "upscale", "upscale": {"image": PICTURE}, "label": "mine", "lane": "batch"}
    assert JobBody.model_validate(larger).left_out == []
    more = {**larger, "prompt": "a", "hires": {"scale": 2.0}, "count": 2, "unheard_of": 1, "steps": None}
    assert JobBody.model_validate(more).left_out == ["unheard_of", "prompt", "count", "hires"]
    with pytest.raises(InvalidRequest, match="upscale requires kind 'upscale', and kind is 'txt2img'"):
        JobBody.model_validate({"prompt": "a", "upscale": {"image": PICTURE}}).to_order(inputs())
