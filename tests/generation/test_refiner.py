"""XL's refiner for the last steps, compared with diffusers' two pipelines, and alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

import pochade
from pochade.errors import InvalidRequest
from pochade.generation.infotext_request import request_from
from pochade.images.metadata import read_parameters
from pochade.pipeline.pipeline import finish
from pochade.request import Request
from pochade.request_options import Hires, Refiner
from tests.generation.test_canvas import photo
from tests.pipeline.measure import SAMPLERS, least_psnr, starting_noise
from tests.reference import NOISE_SCHEDULE

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROMPT, NEGATIVE = "a photograph of a red fox in the snow!", "the 4k cat"
STEPS, SWITCH = 10, 0.6
ALIKE, OTHER = 60, 45  # dB
TEXTS = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "guidance_scale": 7.0, "num_inference_steps": STEPS}


def theirs(base: Any, refiner: Any, label: str, noise: np.ndarray, negative: str | None = NEGATIVE) -> Any:
    """diffusers' documented hand-over: the base ends where the refiner begins."""
    kind = SAMPLERS[label]
    latent = torch.from_numpy(noise)
    texts = {**TEXTS, "negative_prompt": negative}
    for pipeline in (base, refiner):
        pipeline.scheduler = kind.make(**NOISE_SCHEDULE, prediction_type="epsilon")
    if not kind.scaled:
        base.scheduler.set_timesteps(STEPS)
        sigma = float(base.scheduler.sigmas[0])
        latent = latent * (1 + sigma**2) ** 0.5 / base.scheduler.init_noise_sigma
    handed = base(**texts, latents=latent, height=24, width=40, denoising_end=SWITCH, output_type="latent")
    images = refiner(**texts, image=handed.images, denoising_start=SWITCH).images
    return np.stack([np.asarray(image) for image in images])


def ours(base: Path, taking_over: Path, label: str, noise: np.ndarray, **options: Any) -> Any:
    pipeline = pochade.load(base, device="cpu", engine="torch", precision="f32")
    request = {
        "negative_prompt": NEGATIVE, "steps": STEPS, "seed": 5, "width": 40, "height": 24, "sampler": label,
        "schedule": SAMPLERS[label].schedule, "refiner": Refiner(model=taking_over, switch=SWITCH), **options,
    }  # fmt: skip
    result = pipeline.txt2img(PROMPT, noise=noise, **request)
    return np.stack([np.asarray(image) for image in result.images])


@pytest.mark.parametrize("label", ["Euler", "DDIM"])
@pytest.mark.parametrize("layout", ["file", "saved"])
def test_it_takes_over_as_in_diffusers(whole, label, layout):
    """Of samplers without a memory: diffusers' second pipeline begins without one, here it goes on."""
    base, refiner, noise = whole("SDXL"), whole("refiner"), starting_noise([5])
    expected = theirs(base.theirs, refiner.theirs, label, noise)
    drawn = ours(getattr(base, layout)(), getattr(refiner, layout)(), label, noise)
    assert least_psnr(drawn, expected) > ALIKE
    alone = ours(base.file(), refiner.file(), label, noise, refiner=None)
    assert least_psnr(alone, expected) < OTHER


def test_an_empty_negative_prompt_is_nothing_to_the_base_and_a_text_to_the_refiner(whole):
    base, refiner, noise = whole("SDXL"), whole("refiner"), starting_noise([5])
    expected = theirs(base.theirs, refiner.theirs, "Euler", noise, negative=None)
    assert least_psnr(ours(base.file(), refiner.file(), "Euler", noise, negative_prompt=""), expected) > ALIKE


def test_alone_it_draws_over_pictures(whole):
    """Against diffusers' pipeline of the refiner, which is one that draws over pictures."""
    refiner, noise = whole("refiner"), starting_noise([5])
    pipeline = pochade.load(refiner.file(), device="cpu", engine="torch", precision="f32")
    refiner.theirs.scheduler = SAMPLERS["Euler"].make(**NOISE_SCHEDULE, prediction_type="epsilon")
    module = "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_img2img"
    with patch(f"{module}.randn_tensor", lambda *_, **__: torch.tensor(noise)):
        images = refiner.theirs(
            **TEXTS, image=torch.from_numpy(pipeline.encode_image(photo())), strength=0.6
        ).images
    result = pipeline.img2img(
        PROMPT, image=photo(), negative_prompt=NEGATIVE, denoising_strength=0.5, seed=5, steps=STEPS,
        sampler="Euler", schedule="Karras", noise=noise, width=40, height=24,
    )  # fmt: skip
    assert least_psnr([np.asarray(result.images[0])], [np.asarray(images[0])]) > ALIKE


def test_it_does_not_draw_from_nothing(whole):
    pipeline = pochade.load(whole("refiner").file(), device="cpu", engine="torch", precision="f32")
    with pytest.raises(InvalidRequest, match=r"is SDXL's refiner, .* \(--init\)"):
        pipeline.txt2img("a", seed=1, steps=1, width=16, height=16)


@pytest.mark.parametrize("label", ["DPM++ 2M", "Heun", "Euler a", "UniPC order 2"])
def test_switches_at_the_ends_are_one_model_alone(whole, label):
    """Switched at 1 the base does everything; a second base as the refiner changes nothing wherever it is."""
    base, noise = whole("SDXL").file(), starting_noise([5])
    expected = ours(base, base, label, noise, refiner=None)
    for switch in (0.0, 0.5, 1.0):
        refiner = Refiner(model=base, switch=switch)
        np.testing.assert_array_equal(ours(base, base, label, noise, refiner=refiner), expected)
    refined = ours(base, base, label, noise, refiner=Refiner(model=whole("refiner").file(), switch=0.4))
    assert least_psnr(refined, expected) < OTHER


def test_its_text_and_the_way_back(whole, tmp_path):
    base, file = whole("SDXL"), whole("refiner").file(name="xl, refiner.safetensors")
    pipeline = pochade.load(base.file(), device="cpu", engine="torch", precision="f32", models=file.parent)
    request = Request(
        prompt=PROMPT, seed=3, steps=4, width=16, height=16, refiner=Refiner(model=file, switch=0.5)
    )
    result = finish(pipeline.stream(request))
    values = read_parameters(result.infotexts[0]).values
    assert values["Refiner"].startswith("xl_ refiner [") and values["Refiner switch at"] == "0.5"
    again = request_from(result.infotexts[0])
    assert again.refiner == Refiner(model="xl_ refiner", switch=0.5)
    file = whole("refiner").file(name="refiner.safetensors")
    by_name = replace(request, refiner=Refiner(model="refiner", switch=0.5))
    assert finish(pipeline.stream(by_name)).images == result.images


def test_in_a_second_pass_it_works_there_only(whole):
    base, refiner = whole("SDXL"), whole("refiner").file()
    pipeline = pochade.load(base.file(), device="cpu", engine="torch", precision="f32")
    request = Request(
        prompt=PROMPT, seed=3, steps=6, width=16, height=16, hires=Hires(scale=1.5, denoising_strength=0.9)
    )
    first = [p.denoised for p in pipeline.stream(request)]
    refined = [
        p.denoised for p in pipeline.stream(replace(request, refiner=Refiner(model=refiner, switch=0.5)))
    ]
    same = [np.array_equal(a, b) for a, b in zip(first, refined, strict=True)]
    assert all(same[:7]) and not same[-1]


def test_other_latents_are_refused(whole):
    base = pochade.load(whole("SDXL").file(), device="cpu", engine="torch", precision="f32")
    with pytest.raises(InvalidRequest, match=r"the refiner '.*' is SD 1\.x, the model SDXL: their latents"):
        base.txt2img("a", steps=1, width=16, height=16, refiner=Refiner(model=whole("SD 1.5").file()))
