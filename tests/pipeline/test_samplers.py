"""Every sampler and schedule on the starter model, with a few steps."""

from functools import cache

import numpy as np
import pytest
from PIL import Image

import pochade
from pochade.diffusion.samplers import SAMPLERS, consistency
from pochade.diffusion.schedule import FOR_XL, SCHEDULES, noise_schedule, sigmas
from pochade.generation.denoise_loop import all_levels
from pochade.generation.infotext_request import request_from
from pochade.images.metadata import read_parameters
from pochade.pipeline import Pipeline, Progress
from pochade.pipeline.pipeline import finish
from pochade.request import Request
from pochade.request_options import Hires, Source
from tests.reference import psnr

# No guidance: much of it makes the equation stiff, and eight steps too few for most.
OPTIONS = {"prompt": "a red apple", "seed": 7, "cfg_scale": 1.0}

NOISY = {label for label in SAMPLERS if SAMPLERS[label].stochastic and label != "Restart"}


@pytest.fixture(scope="module")
def starter() -> Pipeline:
    return pochade.load(device="cpu")


def draw(starter: Pipeline, **options) -> list[Progress]:
    return list(starter.stream(Request(**{**OPTIONS, **options})))


@pytest.fixture(scope="module")
def expected(starter):
    """What many steps lead to."""

    @cache
    def picture(prompt: str = "a red apple", seed: int = 7) -> np.ndarray:
        steps = draw(starter, steps=30, sampler="DPM++ 2M", prompt=prompt, seed=seed)
        (image,) = steps[-1].result.images
        return np.asarray(image)

    return picture


def likeness(steps: list[Progress], picture: np.ndarray) -> float:
    (image,) = steps[-1].result.images
    return psnr(np.asarray(image), picture)


def counted(steps: list[Progress]) -> None:
    assert [progress.step for progress in steps] == list(range(1, len(steps) + 1))
    assert all(progress.steps > progress.step for progress in steps[:-1])
    assert steps[-1].steps == len(steps)
    assert [progress.result is not None for progress in steps] == [False] * (len(steps) - 1) + [True]


@pytest.fixture(scope="module")
def least(expected) -> dict[str, float]:
    """How alike pictures are at any rate: with other noise, and of other things."""
    return {
        "seed": psnr(expected(seed=8), expected()),
        "prompt": psnr(expected("a blue car"), expected()),
    }


@pytest.mark.parametrize(
    ("label", "schedule"),
    [
        *((label, "Automatic") for label in SAMPLERS),
        *((label, "Align Your Steps") for label in SAMPLERS if SAMPLERS[label].evaluations == 1),
    ],
)
def test_every_sampler_draws_the_picture(starter, expected, least, label, schedule):
    steps = draw(starter, steps=8, sampler=label, schedule=schedule)
    latent = np.asarray(steps[-1].denoised)
    assert np.isfinite(latent).all()
    assert 0.7 < latent.std() < 1.5
    # with noise along the way it is another apple
    assert likeness(steps, expected()) > (least["prompt"] + 1 if label in NOISY else least["seed"] + 4)
    counted(steps)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_draws_the_picture(starter, expected, least, schedule):
    steps = draw(starter, steps=8, sampler="Euler", schedule=schedule)
    # Beta, even in sigma at both ends, leaves the middle to few of eight steps
    assert likeness(steps, expected()) > least["seed"] + (1 if schedule == "Beta" else 4)


def test_adaptive_steps_do_not_depend_on_the_batch(starter):
    """And the batch is one request, whose steps are counted through."""
    together = draw(starter, sampler="DPM adaptive", steps=4, batch_size=2)
    counted(together)
    result = together[-1].result
    assert result.seeds == [7, 8]
    alone = [draw(starter, sampler="DPM adaptive", steps=4, seed=seed) for seed in (7, 8)]
    assert sum(len(steps) for steps in alone) == len(together)
    for image, infotext, steps in zip(result.images, result.infotexts, alone, strict=True):
        np.testing.assert_array_equal(np.asarray(image), np.asarray(steps[-1].result.images[0]))
        assert infotext == steps[-1].result.infotexts[0]


def test_given_noise_is_shared_out_too(starter):
    noise = np.random.default_rng(0).standard_normal((2, 4, 16, 16), np.float32)
    request = Request(**OPTIONS, sampler="DPM adaptive", steps=4, batch_size=2)
    together = finish(starter.stream(request, noise=noise))
    alone = finish(starter.stream(Request(**{**OPTIONS, "seed": 8}, sampler="DPM adaptive"), noise=noise[1:]))
    np.testing.assert_array_equal(np.asarray(together.images[1]), np.asarray(alone.images[0]))


@pytest.mark.parametrize("label", ["Euler a", "DPM fast", "DDIM", "TCD"])
def test_eta_reaches_the_sampler_and_the_file(starter, label):
    own, half, none = (draw(starter, sampler=label, steps=4, eta=eta)[-1].result for eta in (None, 0.5, 0.0))
    assert np.any(np.asarray(own.images[0]) != np.asarray(half.images[0]))
    key = "Eta DDIM" if label == "DDIM" else "Eta"
    assert read_parameters(half.infotexts[0]).values[key] == "0.5"
    assert key not in read_parameters(own.infotexts[0]).values
    assert [request_from(each.infotexts[0]).eta for each in (own, half, none)] == [None, 0.5, 0.0]


def test_eta_is_not_written_where_it_has_no_part(starter):
    (done,) = draw(starter, sampler="Euler", steps=1, eta=0.5)
    assert "Eta" not in done.result.infotexts[0]


def test_a_level_is_discarded_where_that_is_the_tradition(starter):
    six, five = (sigmas(starter.schedule, "Karras", steps) for steps in (6, 5))
    for label, levels in (("DPM2", [*six[:5], 0.0]), ("Heun", five)):
        sampler = SAMPLERS[label]
        assert all_levels(starter.schedule, starter.networks, sampler, "Karras", 5) == levels


@pytest.mark.parametrize(("family", "xl"), [("SD 1.5", False), ("SDXL", True)])
def test_align_your_steps_of_the_family(model, family, xl):
    pipeline = model(family).load()
    levels = all_levels(pipeline.schedule, pipeline.networks, SAMPLERS["Euler"], "Align Your Steps", 11)
    assert levels == sigmas(pipeline.schedule, "Align Your Steps", 11, overrides=FOR_XL if xl else {})
    assert levels != sigmas(pipeline.schedule, "Align Your Steps", 11, overrides={} if xl else FOR_XL)


@pytest.mark.parametrize("label", ["DPM fast", "DPM adaptive", "Restart", "PLMS"])
def test_two_passes_are_counted_through(starter, label):
    steps = draw(starter, sampler=label, steps=3, width=32, height=32, hires=Hires(scale=2.0))
    counted(steps)
    assert steps[-1].result.images[0].size == (64, 64)


@pytest.mark.parametrize("label", ["DPM fast", "DPM adaptive", "Restart", "PLMS", "TCD"])
def test_over_a_picture_little_changes_with_little_strength(starter, expected, label):
    source = Source(image=Image.fromarray(expected()), denoising_strength=0.15)
    steps = draw(starter, sampler=label, steps=24, source=source)
    counted(steps)
    assert likeness(steps, expected()) > 24


def test_tcd_takes_the_models_own_schedule(starter, monkeypatch):
    """Not Stable Diffusion's, which it has only if nobody tells it of another."""
    first = draw(starter, sampler="TCD", steps=3)[-1].result.images[0]
    monkeypatch.setattr(consistency, "noise_schedule", lambda: noise_schedule("linear", 1e-4, 0.02))
    assert draw(starter, sampler="TCD", steps=3)[-1].result.images[0] == first


@pytest.mark.parametrize("label", [label for label, sampler in SAMPLERS.items() if sampler.brownian])
def test_a_stochastic_picture_keeps_its_path_with_other_steps(starter, label):
    """With twice the steps it is the same picture, more or less; with another seed it is another one."""

    def latent(steps, **options):
        (*_, last) = draw(starter, sampler=label, steps=steps, cfg_scale=1.0, **options)
        return last.denoised

    one, other = latent(30), latent(60)
    elsewhere = latent(60, seed=1234)
    assert np.abs(one - other).mean() < 0.6 * np.abs(one - elsewhere).mean()
