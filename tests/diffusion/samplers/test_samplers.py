"""Properties of all samplers: the interface, names, numpy and torch, extreme noise levels."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from pochade.diffusion.noise import batch_noise
from pochade.diffusion.parametrization import denoiser, v
from pochade.diffusion.samplers import SAMPLERS, find_sampler
from pochade.diffusion.schedule import SCHEDULES, find_schedule, noise_schedule, sigmas
from pochade.errors import InvalidRequest

SHAPE = 4, 6, 6
SEEDS = [5, 6]


def toy(x, sigma):
    """Operators only, so that it takes numpy arrays and torch tensors alike."""
    return x / (1 + sigma * sigma) * (1 + 0.3 * x / (1 + x * x))


def run(label, denoise, levels, kind=np.asarray, scale=None):
    noise = batch_noise(SEEDS, SHAPE)
    start = kind(noise() * np.float32(levels[0] if scale is None else scale))
    return list(SAMPLERS[label].function(denoise, start, levels, lambda: kind(noise())))


# --- the contract -------------------------------------------------------------------------------------


OWN_STEPS = ["DPM fast", "DPM adaptive"]


@pytest.mark.parametrize("steps", [1, 2, 3, 9, 25])
@pytest.mark.parametrize("label", [label for label in SAMPLERS if label not in OWN_STEPS])
def test_steps_evaluations_and_draws(label, steps):
    levels = sigmas(noise_schedule(), "Karras", steps)
    asked, draws = [], []

    def denoise(x, sigma):
        assert type(sigma) is float
        asked.append(sigma)
        return toy(x, sigma)

    def noise():
        draws.append(1)
        return np.ones((2, *SHAPE), np.float32)

    start = np.ones((2, *SHAPE), np.float32) * np.float32(levels[0])
    kept = start.copy()
    # numpy scalars are what a caller may well hand over
    done = list(SAMPLERS[label].function(denoise, start, np.array(levels), noise))
    sampler = SAMPLERS[label]
    assert [step.index for step in done] == list(range(steps))
    assert {step.steps for step in done} == {steps}
    assert min(asked) > 0
    further = 1 if label == "PLMS" and steps > 1 else 0  # its first step is Heun's
    assert len(asked) == (steps - 1) * sampler.evaluations + 1 + further
    if label == "Restart":
        assert len(draws) == (1 if steps == 25 else 0)
    else:
        per_step = sampler.evaluations if label == "DPM++ SDE" else 1
        assert len(draws) == (steps - 1) * per_step * sampler.stochastic
    assert all(step.x.dtype == step.denoised.dtype == np.float32 for step in done)
    assert all(step.x.shape == step.denoised.shape == start.shape for step in done)
    np.testing.assert_array_equal(done[-1].x, done[-1].denoised)
    np.testing.assert_array_equal(start, kept)  # the caller's array is not written to


@pytest.mark.parametrize("label", SAMPLERS)
def test_work_is_done_only_when_asked_for(label):
    asked = []

    def denoise(x, sigma):
        asked.append(sigma)
        return toy(x, sigma)

    steps = SAMPLERS[label].function(
        denoise, np.ones(3, np.float32), [4.0, 2.0, 1.0, 0.0], lambda: np.ones(3)
    )
    assert not asked
    next(steps)
    first = {"PLMS": 2, "DPM fast": 2, "DPM adaptive": 3}
    assert len(asked) == first.get(label, SAMPLERS[label].evaluations)


@pytest.mark.parametrize("label", SAMPLERS)
def test_steps_are_frozen(label):
    step = run(label, toy, [4.0, 1.0, 0.0])[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        step.index = 3


# --- numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", SAMPLERS)
def test_torch_tensors_give_what_numpy_arrays_give(label):
    levels = sigmas(noise_schedule(), "Karras", 12)
    arrays, tensors = run(label, toy, levels), run(label, toy, levels, kind=torch.from_numpy)
    for array, tensor in zip(arrays, tensors, strict=True):
        assert tensor.x.dtype == torch.float32
        np.testing.assert_allclose(tensor.x.numpy(), array.x, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(tensor.denoised.numpy(), array.denoised, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("label", [label for label in SAMPLERS if not SAMPLERS[label].alone])
def test_a_picture_does_not_depend_on_its_batch(label):
    levels = sigmas(noise_schedule(), "Karras", 6)
    noise = batch_noise(SEEDS[1:], SHAPE)
    start = noise() * np.float32(levels[0])
    alone = list(SAMPLERS[label].function(toy, start, levels, noise))
    np.testing.assert_array_equal(run(label, toy, levels)[-1].x[1:], alone[-1].x)


@pytest.mark.parametrize("schedule_name", SCHEDULES)
@pytest.mark.parametrize("label", SAMPLERS)
def test_zero_terminal_snr(label, schedule_name):
    """From sigma 4096 in float32, with an ideal v model of normal data N(0.5, 0.6^2), in 1 to 40 steps."""
    schedule = noise_schedule(zero_terminal_snr=True)
    mean, deviation = 0.5, 0.6

    def predict(scaled, timestep):
        level = schedule.sigma(timestep)
        c_in = (1 + level * level) ** -0.5
        x = scaled / c_in
        data = mean + deviation**2 / (deviation**2 + level * level) * (x - mean)
        return (c_in * c_in * x - data) / (level * c_in)  # v, from data = c_in^2 x - sigma c_in v

    for steps in (1, 2, 5, 40):
        done = run(label, denoiser(predict, v, schedule), sigmas(schedule, schedule_name, steps))
        assert all(np.isfinite(step.x).all() and np.isfinite(step.denoised).all() for step in done)
    # DDIM does not begin at the last timestep; Beta is even in sigma, so too coarse below 100 to be accurate
    if schedule_name not in ("DDIM", "Beta"):
        allowed = 0.25 if label == "DPM adaptive" else 0.12  # its tolerance is a twentieth per step
        assert done[-1].x.mean() == pytest.approx(mean, abs=allowed)  # of 288 numbers
    if steps == 1:
        np.testing.assert_allclose(done[-1].x, mean, atol=1e-3)


@pytest.mark.parametrize("label", SAMPLERS)
def test_data_in_one_point_is_found_exactly(label):
    done = run(label, lambda x, sigma: x * 0 + 0.25, sigmas(noise_schedule(), "Karras", 7))
    np.testing.assert_array_equal(done[-1].x, np.float32(0.25))


# --- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Euler", "Euler"),
        ("k_euler", "Euler"),
        ("euler_a", "Euler a"),
        ("k_euler_a", "Euler a"),
        ("Euler Ancestral", "Euler a"),
        ("k_euler_ancestral", "Euler a"),
        ("heun", "Heun"),
        ("ddim", "DDIM"),
        ("dpmpp_2m", "DPM++ 2M"),
        ("k_dpmpp_2m", "DPM++ 2M"),
        ("dpm++ 2m", "DPM++ 2M"),
        ("DPM++ 2M SDE", "DPM++ 2M SDE"),
        ("dpmpp_2m_sde", "DPM++ 2M SDE"),
        ("dpmpp_sde", "DPM++ SDE"),
        ("uni_pc", "UniPC"),
        ("uni_pc_bh2", "UniPC bh2"),
        ("lcm", "LCM"),
        ("lms", "LMS"),
        ("k_lms", "LMS"),
        ("dpm_2", "DPM2"),
        ("k_dpm_2", "DPM2"),
        ("k_dpm_2_a", "DPM2 a"),
        ("dpm_2_ancestral", "DPM2 a"),
        ("k_dpm_2_ancestral", "DPM2 a"),
        ("k_dpmpp_2s_a", "DPM++ 2S a"),
        ("dpmpp_2s_ancestral", "DPM++ 2S a"),
        ("k_dpmpp_2m_sde_heun", "DPM++ 2M SDE Heun"),
        ("dpmpp_2m_sde_heun_gpu", "DPM++ 2M SDE Heun"),
        ("dpmpp_3m_sde_gpu", "DPM++ 3M SDE"),
        ("k_dpm_fast", "DPM fast"),
        ("k_dpm_ad", "DPM adaptive"),
        ("dpm_adaptive", "DPM adaptive"),
        ("restart", "Restart"),
        ("plms", "PLMS"),
        ("PNDM", "PLMS"),
        ("tcd", "TCD"),
        ("KDPM2AncestralDiscreteScheduler", "DPM2 a"),
        ("UniPCMultistepScheduler", "UniPC order 2"),
    ],
)
def test_names(name, label):
    assert find_sampler(name) is SAMPLERS[label]


@pytest.mark.parametrize("name", ["", "foo", "?", "DPM++ 2M Karras", "DPM++ 4M", "k_", "DPM2 b", "Euler b"])
def test_an_unknown_sampler_is_named_with_all_that_there_are(name):
    with pytest.raises(InvalidRequest) as caught:
        find_sampler(name)
    assert f"sampler '{name}' is unknown" in str(caught.value)
    assert all(label in str(caught.value) for label in SAMPLERS)


def test_no_name_means_two_samplers():
    names = [name for sampler in SAMPLERS.values() for name in (sampler.label, *sampler.aliases)]
    assert [find_sampler(name).label for name in names] == [
        sampler.label for sampler in SAMPLERS.values() for _ in (sampler.label, *sampler.aliases)
    ]


def test_the_registry():
    assert list(SAMPLERS) == [
        "Euler", "Euler a", "Heun", "LMS", "DPM2", "DPM2 a", "DPM++ 2S a", "DPM++ 2M", "DPM++ SDE",
        "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE", "DPM fast", "DPM adaptive", "Restart", "DDIM",
        "PLMS", "UniPC", "UniPC bh2", "UniPC order 2", "LCM", "TCD",
    ]  # fmt: skip
    automatic = {label: sampler.schedule for label, sampler in SAMPLERS.items()}
    assert all(find_schedule(name) == name for name in automatic.values())
    assert {
        name: [label for label in automatic if automatic[label] == name] for name in automatic.values()
    } == {
        "Uniform": ["Euler", "Euler a", "Heun", "LMS", "DPM fast", "DPM adaptive", "UniPC order 2"],
        "SGM Uniform": ["UniPC", "UniPC bh2"],
        "Karras": ["DPM2", "DPM2 a", "DPM++ 2S a", "DPM++ 2M", "DPM++ SDE", "Restart"],
        "Exponential": ["DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"],
        "DDIM": ["DDIM", "PLMS"],
        "LCM": ["LCM", "TCD"],
    }
    with pytest.raises(TypeError):
        SAMPLERS["Euler"] = SAMPLERS["Heun"]


@pytest.mark.parametrize("label", [label for label in SAMPLERS if "eta" in SAMPLERS[label].options])
def test_eta_is_how_much_noise_is_drawn(label):
    levels = sigmas(noise_schedule(), "Karras", 6)

    def drawn(**options):
        draws = []

        def noise():
            draws.append(1)
            return np.zeros(3, np.float32)

        list(SAMPLERS[label].function(toy, np.ones(3, np.float32), levels, noise, **options))
        return len(draws)

    assert drawn(eta=0.0) == 0 or label == "DPM++ SDE"  # which draws, and takes none of it
    assert drawn(eta=1.0) > 0
    assert bool(drawn()) == SAMPLERS[label].stochastic


def test_the_documentation_tells_them_all():
    text = (Path(__file__).parents[3] / "docs/samplers.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    samplers = {row[0]: row for row in rows if len(row) == 6 and row[0] in SAMPLERS}
    assert list(samplers) == list(SAMPLERS)
    for label, (_, names, automatic, evaluations, noise, _) in samplers.items():
        sampler = SAMPLERS[label]
        assert all(find_sampler(name.strip("` ")) is sampler for name in names.split(",") if name)
        assert automatic.endswith("*") == sampler.discard_penultimate
        if label not in OWN_STEPS:
            assert (automatic.removesuffix(" *"), int(evaluations)) == (sampler.schedule, sampler.evaluations)
        assert ("eta" in noise) == ("eta" in sampler.options)
        assert (noise not in ("", "(eta)")) == sampler.stochastic
    schedules = " ".join(row[0] for row in rows if len(row) == 2)
    assert all(label in schedules for label in SCHEDULES)
