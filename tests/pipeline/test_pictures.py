"""Whole pictures, compared with diffusers from the same noise, with every common sampler."""

import numpy as np
import pytest

from pochade.engines.openvino import device_features
from pochade.request import Request
from tests.pipeline.measure import (
    SAMPLERS,
    draw_ours,
    draw_theirs,
    inpainting_inputs,
    last_latent,
    least_psnr,
    starting_noise,
)
from tests.reference import FACTOR, relative_error

# diffusers 0.42 asks numpy for arrays in a way that numpy 2 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROMPT, NEGATIVE = "a red fox in the snow", "the 4k cat"
ALIKE, OTHER = 60, 45  # dB: rounding in 32 bits costs less; what is really another picture is below


def theirs_of(model, label="Euler", prompt=PROMPT, negative=NEGATIVE, seeds=(5,), **options):
    noise, rows = starting_noise(seeds), len(seeds)
    texts = {"prompt": [prompt] * rows, "negative_prompt": None if negative is None else [negative] * rows}
    if type(model.theirs).__name__ == "StableDiffusionInpaintPipeline":
        options |= inpainting_inputs(model.theirs, noise)
    return draw_theirs(model.theirs, label, noise, seeds, **texts, **options)


def ours_of(model, label="Euler", prompt=PROMPT, negative=NEGATIVE, seeds=(5,), engine="torch", **options):
    pipeline = model.load(engine, options.pop("precision", "f32"))
    return draw_ours(
        pipeline, label, starting_noise(seeds), seeds, prompt, negative_prompt=negative, **options
    )


@pytest.mark.parametrize("label", SAMPLERS)
def test_samplers(model, label):
    made = model("SD 1.5")
    assert least_psnr(ours_of(made, label), theirs_of(made, label)) > ALIKE


def test_a_batch(model):
    """Each picture has noise of its own, along the way too."""
    made, options = model("SD 1.5"), {"label": "DPM++ 2M SDE", "seeds": (5, 6, 7)}
    assert least_psnr(ours_of(made, **options), theirs_of(made, **options)) > ALIKE


@pytest.mark.parametrize("label", ["Euler", "Euler a", "DPM++ 2M SDE", "UniPC order 2"])
def test_a_model_that_predicts_v(model, label):
    made = model("SD 2.1")
    assert least_psnr(ours_of(made, label), theirs_of(made, label)) > ALIKE


@pytest.mark.parametrize("label", ["DDIM", "DPM++ 2M"])
def test_xl(model, label):
    made = model("SDXL")
    assert least_psnr(ours_of(made, label), theirs_of(made, label)) > ALIKE


def test_inpainting_model_without_a_picture(model):
    made = model("inpainting")
    assert least_psnr(ours_of(made), theirs_of(made)) > ALIKE


@pytest.mark.parametrize("scale", [1.0, 4.5])
def test_lcm_is_told_the_guidance_scale(model, scale):
    """In one evaluation: the scale is an input, and no negative prompt is read."""
    made = model("LCM")
    ours = ours_of(made, "LCM", steps=4, cfg_scale=scale, negative="what is not read")
    assert least_psnr(ours, theirs_of(made, "LCM", steps=4, cfg_scale=scale)) > ALIKE


@pytest.mark.parametrize(
    "family",
    [
        "SD 1.5",
        "SD 2.1",
        "SDXL",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("inpainting", "LCM")),
    ],
)
def test_openvino(model, family):
    made = model(family)
    ours = ours_of(made, engine="openvino")
    assert least_psnr(ours, theirs_of(made)) > ALIKE
    assert least_psnr(ours, ours_of(made, engine="torch")) > 45


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_ddim_with_noise(model, eta):
    made = model("SD 1.5")
    assert least_psnr(ours_of(made, "DDIM", eta=eta), theirs_of(made, "DDIM", eta=eta)) > ALIKE


def test_guidance_off(model):
    made = model("SD 1.5")
    assert least_psnr(ours_of(made, cfg_scale=1.0), theirs_of(made, cfg_scale=1.0)) > ALIKE


def test_guidance_rescale(model):
    made = model("SD 2.1")
    theirs = theirs_of(made, guidance_rescale=0.7)
    assert least_psnr(ours_of(made, guidance_rescale=0.7), theirs) > ALIKE
    assert least_psnr(ours_of(made), theirs) < OTHER


def test_an_empty_negative_prompt_of_xl_is_no_text_at_all(model):
    """As diffusers do if they are given none: zeros in place of its conditioning and its pooled vector."""
    made = model("SDXL")
    ours = ours_of(made, negative="")
    assert least_psnr(ours, theirs_of(made, negative=None)) > ALIKE
    assert least_psnr(ours, theirs_of(made, negative="")) < OTHER


def test_an_empty_negative_prompt_is_a_text_to_other_models(model):
    made = model("SD 1.5")
    assert least_psnr(ours_of(made, negative=""), theirs_of(made, negative=None)) > ALIKE


def test_an_empty_prompt(model):
    made = model("SD 1.5")
    assert least_psnr(ours_of(made, prompt=""), theirs_of(made, prompt="")) > ALIKE


@pytest.mark.parametrize("family", ["SD 1.5", "SD 2.1", "SDXL"])
def test_these_pictures_show_it_when_something_is_different(model, family):
    """So that equal pictures above mean something: nothing is clipped away, and everything has its effect."""
    made = model(family)
    pictures = ours_of(made)
    assert pictures.shape == (1, 6 * FACTOR, 10 * FACTOR, 3)
    assert pictures.std() > 20
    assert np.isin(pictures, (0, 255)).mean() < 0.02
    for change in (
        {"prompt": "a red fox in the sand"},
        {"negative": "the 4k dog"},
        {"cfg_scale": 4.0},
        {"steps": 10},
        {"label": "Euler a"},
    ):
        assert least_psnr(ours_of(made, **change), pictures) < OTHER, change


def test_bf16_draws_nearly_the_same_picture(model):
    made = model("SD 2.1")
    exact = ours_of(made, engine="torch")
    native = "bf16" in device_features().precisions  # OpenVINO emulates nothing; torch does
    for engine in ("openvino", "torch") if native else ("torch",):
        rounded = ours_of(made, engine=engine, precision="bf16")
        assert 25 < least_psnr(rounded, exact) < 70


def test_the_last_preview_is_the_picture(model):
    """A latent of at most 16 pixels is decoded whole; then it is also what diffusers end with."""
    made, noise = model("SD 1.5"), starting_noise([5])
    pipeline = made.load()
    request = Request(prompt=PROMPT, seed=5, width=40, height=24, sampler="DDIM")
    *_, last = pipeline.stream(request, noise=noise)
    np.testing.assert_array_equal(last.preview()[0], last.result.images[0])
    latents = []

    def keep(pipe, index, timestep, given):
        latents.append(given["latents"].numpy())
        return given

    draw_theirs(made.theirs, "DDIM", noise, [5], prompt=PROMPT, callback_on_step_end=keep)
    ours = last_latent(pipeline, noise, prompt=PROMPT, seed=5, width=40, height=24, sampler="DDIM")
    assert relative_error(ours, latents[-1]) < 1e-4
