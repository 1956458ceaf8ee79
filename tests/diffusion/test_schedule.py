"""Noise schedules and sigma schedules: closed forms, and diffusers' schedulers."""

from itertools import pairwise

import numpy as np
import pytest
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
)
from diffusers.schedulers import AysSchedules
from scipy import stats

from pochade.diffusion.beta import beta_quantile
from pochade.diffusion.samplers import SAMPLERS, find_sampler
from pochade.diffusion.schedule import (
    AUTOMATIC,
    FOR_XL,
    SCHEDULES,
    TERMINAL_ALPHA_CUMPROD,
    find_schedule,
    noise_schedule,
    sigmas,
    split_sampler_name,
)
from pochade.errors import InvalidCheckpoint, InvalidRequest

# diffusers 0.42 asks numpy for arrays in a way that numpy 2 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.fixture(scope="module")
def schedule():
    return noise_schedule()


# --- the model's schedule -----------------------------------------------------------------------------


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize(
    ("kind", "start", "end"),
    [("scaled_linear", 0.00085, 0.012), ("linear", 1e-4, 0.02), ("squaredcos_cap_v2", 1e-4, 0.02)],
)
def test_alphas_cumprod_are_those_of_diffusers(kind, start, end, zero_terminal_snr):
    ours = noise_schedule(kind, start, end, zero_terminal_snr=zero_terminal_snr).alphas_cumprod
    theirs = DDPMScheduler(
        beta_schedule=kind, beta_start=start, beta_end=end, rescale_betas_zero_snr=zero_terminal_snr
    ).alphas_cumprod.numpy()
    last = -1 if zero_terminal_snr else None  # theirs is 0 there; some of their schedulers patch it, below
    # they sum a thousand factors in float32
    np.testing.assert_allclose(ours[:last], theirs[:last], rtol=5e-5, atol=1e-9)


def test_stable_diffusion_levels(schedule):
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    np.testing.assert_allclose(schedule.alphas_cumprod, np.cumprod(1 - betas), rtol=1e-14)
    assert schedule.alphas_cumprod.dtype == np.float64
    assert schedule.sigma_min == pytest.approx(0.029167, abs=1e-6)
    assert schedule.sigma_max == pytest.approx(14.614641, abs=1e-6)


def test_zero_terminal_snr_keeps_the_start_and_ends_in_noise(schedule):
    rescaled = noise_schedule(zero_terminal_snr=True)
    theirs = EulerDiscreteScheduler(**SD, rescale_betas_zero_snr=True).alphas_cumprod.numpy()
    assert (
        rescaled.alphas_cumprod[-1]
        == TERMINAL_ALPHA_CUMPROD
        == theirs[-1]
        == np.finfo(np.float16).smallest_subnormal
    )
    assert rescaled.alphas_cumprod[0] == pytest.approx(schedule.alphas_cumprod[0], rel=1e-14)
    assert rescaled.sigma_max == pytest.approx(4096, rel=1e-6)
    root, shifted = np.sqrt(schedule.alphas_cumprod), np.sqrt(rescaled.alphas_cumprod)
    expected = (root - root[-1]) / (root[0] - root[-1]) * root[0]
    np.testing.assert_allclose(shifted[:-1], expected[:-1], rtol=1e-12)


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("kind", ["scaled_linear", "linear", "squaredcos_cap_v2"])
def test_levels_rise_with_the_timestep(kind, zero_terminal_snr):
    assert np.all(np.diff(noise_schedule(kind, zero_terminal_snr=zero_terminal_snr).sigmas) > 0)


def test_a_schedule_cannot_be_changed(schedule):
    with pytest.raises(ValueError, match="read-only"):
        schedule.alphas_cumprod[0] = 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "cosine"}, "'cosine' is unknown; one of: scaled_linear"),
        ({"beta_start": 0.0}, "beta_start 0.0"),
        ({"beta_start": 0.02}, "beta_end 0.012"),
        ({"beta_end": float("nan")}, "nan"),
        ({"steps": 1}, "steps 1"),
    ],
)
def test_an_impossible_noise_schedule_is_named(arguments, words):
    with pytest.raises(InvalidCheckpoint, match=words):
        noise_schedule(**arguments)


# --- sigma <-> timestep -------------------------------------------------------------------------------


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_levels_of_the_grid_are_exact_integers(zero_terminal_snr):
    schedule = noise_schedule(zero_terminal_snr=zero_terminal_snr)
    for timestep, sigma in enumerate(schedule.sigmas):
        assert schedule.timestep(float(sigma)) == timestep
        assert schedule.timestep(float(np.float32(sigma))) == timestep
        assert schedule.sigma(timestep) == pytest.approx(sigma, rel=1e-13)


def test_between_levels_log_sigma_is_linear(schedule):
    middle = (schedule.sigmas[499] * schedule.sigmas[500]) ** 0.5
    assert schedule.timestep(middle) == pytest.approx(499.5, abs=1e-9)
    assert schedule.sigma(499.5) == pytest.approx(middle, rel=1e-12)
    assert (schedule.timestep(0.0), schedule.timestep(1e-3), schedule.timestep(1e3)) == (0.0, 0.0, 999.0)


def test_timesteps_are_those_of_diffusers(schedule):
    theirs = EulerDiscreteScheduler(**SD)
    log_sigmas = np.log(schedule.sigmas)
    for sigma in np.exp(np.random.default_rng(0).uniform(-3.5, 2.6, 200)):
        expected = theirs._sigma_to_t(np.array(sigma), log_sigmas)
        assert schedule.timestep(sigma) == pytest.approx(float(expected), abs=1e-4)


# --- the picture's schedule ---------------------------------------------------------------------------


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 30, 50, 333, 999, 1000])
@pytest.mark.parametrize("name", SCHEDULES)
def test_levels_fall_strictly_to_zero(name, steps, zero_terminal_snr):
    schedule = noise_schedule(zero_terminal_snr=zero_terminal_snr)
    if name == "LCM" and steps > 50:
        with pytest.raises(InvalidRequest, match=f"steps is {steps}; schedule 'LCM' has 50"):
            sigmas(schedule, name, steps)
        return
    levels = sigmas(schedule, name, steps)
    assert all(type(level) is float for level in levels)
    assert len(levels) == steps + 1
    assert levels[-1] == 0
    assert all(after < level for level, after in pairwise(levels))
    assert levels[-2] >= schedule.sigma_min * (1 - 1e-12)
    if name != "DDIM":
        assert levels[0] == pytest.approx(schedule.sigma_max, rel=1e-12)


def levels_of(kind, steps, **options):
    scheduler = kind(**SD, **options)
    scheduler.set_timesteps(steps)
    return scheduler.sigmas.numpy()


@pytest.mark.parametrize(
    ("name", "steps", "kind", "options"),
    [
        ("Karras", 20, EulerDiscreteScheduler, {"use_karras_sigmas": True}),
        ("Exponential", 20, EulerDiscreteScheduler, {"use_exponential_sigmas": True}),
        ("Beta", 20, EulerDiscreteScheduler, {"use_beta_sigmas": True}),
        # numbers of steps that put every timestep on an integer, where the schedulers need not interpolate
        # (theirs is linear in sigma) or round
        ("Uniform", 28, EulerDiscreteScheduler, {"timestep_spacing": "linspace"}),
        ("Normal", 28, EulerDiscreteScheduler, {"timestep_spacing": "linspace"}),
        ("SGM Uniform", 27, DPMSolverMultistepScheduler, {"timestep_spacing": "linspace"}),
        ("Simple", 20, EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
        ("Turbo", 20, EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
        ("Polyexponential", 20, EulerDiscreteScheduler, {"use_exponential_sigmas": True}),
        ("DDIM", 20, EulerDiscreteScheduler, {"timestep_spacing": "leading", "steps_offset": 1}),
    ],
)
def test_levels_are_those_of_diffusers(schedule, name, steps, kind, options):
    np.testing.assert_allclose(sigmas(schedule, name, steps), levels_of(kind, steps, **options), rtol=2e-5)


def test_uniform_interpolates_in_log_sigma(schedule):
    """diffusers, at 20 steps, interpolates sigma itself; the levels agree but for that."""
    theirs = levels_of(EulerDiscreteScheduler, 20, timestep_spacing="linspace")
    np.testing.assert_allclose(sigmas(schedule, "Uniform", 20), theirs, rtol=2e-4)
    expected = [schedule.sigma(t) for t in np.linspace(999, 0, 20)]
    np.testing.assert_allclose(sigmas(schedule, "Uniform", 20)[:-1], expected, rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 10, 20, 25, 30, 48])
def test_ddim_timesteps_are_those_of_diffusers(schedule, steps):
    theirs = DDIMScheduler(**SD, timestep_spacing="leading", steps_offset=1)
    theirs.set_timesteps(steps)
    ours = [schedule.timestep(sigma) for sigma in sigmas(schedule, "DDIM", steps)[:-1]]
    assert ours == theirs.timesteps.tolist()


def test_lcm_timesteps_are_those_of_diffusers(schedule):
    theirs = LCMScheduler(**SD)
    for steps in range(1, 51):
        theirs.set_timesteps(steps)
        ours = [schedule.timestep(sigma) for sigma in sigmas(schedule, "LCM", steps)[:-1]]
        assert ours == theirs.timesteps.tolist()


def test_karras_is_even_in_the_seventh_root(schedule):
    roots = np.array(sigmas(schedule, "Karras", 12)[:-1]) ** (1 / 7)
    np.testing.assert_allclose(np.diff(roots), (roots[-1] - roots[0]) / 11, rtol=1e-10)


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 30, 37, 400])
def test_turbo_timesteps_are_those_of_diffusers(schedule, steps):
    theirs = DDIMScheduler(**SD, timestep_spacing="trailing")
    theirs.set_timesteps(steps)
    ours = [schedule.timestep(sigma) for sigma in sigmas(schedule, "Turbo", steps)[:-1]]
    assert ours == theirs.timesteps.tolist()


def test_turbo_in_four_steps(schedule):
    assert [schedule.timestep(sigma) for sigma in sigmas(schedule, "Turbo", 4)[:-1]] == [999, 749, 499, 249]


def test_kl_optimal_is_even_in_the_angle(schedule):
    angles = np.arctan(sigmas(schedule, "KL Optimal", 12)[:-1])
    np.testing.assert_allclose(np.diff(angles), (angles[-1] - angles[0]) / 11, rtol=1e-10)


@pytest.mark.parametrize(
    ("xl", "table"), [(False, "StableDiffusionSigmas"), (True, "StableDiffusionXLSigmas")]
)
def test_align_your_steps_is_the_published_table(schedule, xl, table):
    """At eleven levels, in diffusers' copy. What a model really begins and ends with is less rounded."""
    levels = sigmas(schedule, "Align Your Steps", 11, overrides=FOR_XL if xl else {})
    published = AysSchedules[table]
    np.testing.assert_allclose(levels[:10], published[:10], rtol=3e-5)
    assert levels[10] == pytest.approx(0.029, rel=0.01)
    assert levels[10] == pytest.approx(schedule.sigma_min, rel=1e-12)
    assert levels[11] == 0


def test_align_your_steps_is_log_linear_between(schedule):
    eleven = np.array(sigmas(schedule, "Align Your Steps", 11)[:-1])
    finer = np.array(sigmas(schedule, "Align Your Steps", 21)[:-1])
    np.testing.assert_allclose(finer[::2], eleven, rtol=1e-12)
    np.testing.assert_allclose(finer[1::2], (eleven[1:] * eleven[:-1]) ** 0.5, rtol=1e-12)


@pytest.mark.parametrize("name", ["Karras", "Uniform", "Exponential", "Automatic"])
def test_one_level_more_without_the_last(schedule, name):
    more = sigmas(schedule, name, 11)
    assert sigmas(schedule, name, 10, discard_penultimate=True) == [*more[:-2], 0.0]


def test_at_most_as_many_levels_as_the_model_has(schedule):
    assert len(sigmas(schedule, "Simple", 1000, discard_penultimate=True)) == 1001
    assert sigmas(schedule, "Karras", 1, discard_penultimate=True) == sigmas(schedule, "Karras", 1)


@pytest.mark.parametrize("shape", [0.6, 0.3, 1.0])
def test_beta_quantiles_are_those_of_scipy(shape):
    shares = np.concatenate([np.linspace(0, 1, 257), [1e-6, 1e-3, 1 - 1e-3]])
    np.testing.assert_allclose(beta_quantile(shares, shape), stats.beta.ppf(shares, shape, shape), atol=1e-12)


# --- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("karras", "Karras"),
        ("KARRAS", "Karras"),
        ("sgm_uniform", "SGM Uniform"),
        ("SGMUniform", "SGM Uniform"),
        ("sgm uniform", "SGM Uniform"),
        ("automatic", AUTOMATIC),
        ("kl_optimal", "KL Optimal"),
        ("align_your_steps", "Align Your Steps"),
        ("AYS", "Align Your Steps"),
        ("ddim_uniform", "DDIM"),
        ("sd_turbo", "Turbo"),
        ("poly-exponential", "Polyexponential"),
        ("ddim", "DDIM"),
    ],
)
def test_schedule_names(name, label):
    assert find_schedule(name) == label


def test_automatic_is_what_the_sampler_wants(schedule):
    assert sigmas(schedule, "Automatic", 9, "Karras") == sigmas(schedule, "Karras", 9)
    assert sigmas(schedule, "automatic", 9) == sigmas(schedule, "Uniform", 9)
    assert sigmas(schedule, "Exponential", 9, "Karras") == sigmas(schedule, "Exponential", 9)


@pytest.mark.parametrize("name", ["karas", "", "Euler"])
def test_an_unknown_schedule_is_named_with_all_that_there_are(schedule, name):
    with pytest.raises(InvalidRequest) as caught:
        sigmas(schedule, name, 20)
    assert f"'{name}'" in str(caught.value)
    assert all(label in str(caught.value) for label in (AUTOMATIC, *SCHEDULES))


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_an_impossible_number_of_steps_is_named(schedule, steps):
    with pytest.raises(InvalidRequest, match=f"steps is {steps}"):
        sigmas(schedule, "Karras", steps)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("DPM++ 2M Karras", ("DPM++ 2M", "Karras")),
        ("dpmpp_2m_karras", ("dpmpp 2m", "Karras")),
        ("DPM++ 2M SDE Exponential", ("DPM++ 2M SDE", "Exponential")),
        ("Euler a", ("Euler a", None)),
        ("k_dpmpp_2m_ka", ("k dpmpp 2m", "Karras")),
        ("k_dpm_2_a_ka", ("k dpm 2 a", "Karras")),
        ("k_dpmpp_3m_sde_exp", ("k dpmpp 3m sde", "Exponential")),
        ("DPM2 a Karras", ("DPM2 a", "Karras")),
        ("DPM++ 3M SDE Exponential", ("DPM++ 3M SDE", "Exponential")),
        ("Euler Align Your Steps", ("Euler", "Align Your Steps")),
        ("euler_ddim_uniform", ("euler", "DDIM")),
        ("Restart Automatic", ("Restart", AUTOMATIC)),
        ("Euler SGM Uniform", ("Euler", "SGM Uniform")),
        ("euler_sgm_uniform", ("euler", "SGM Uniform")),
        ("Euler SGMUniform", ("Euler", "SGM Uniform")),
        (" DPM++  2M  SGM  Uniform ", ("DPM++ 2M", "SGM Uniform")),
        ("DDIM", ("DDIM", None)),
        ("LCM", ("LCM", None)),
        ("Karras", ("Karras", None)),
        ("", ("", None)),
    ],
)
def test_old_fused_names_come_apart(name, parts):
    assert split_sampler_name(name) == parts


@pytest.mark.parametrize("schedule_name", SCHEDULES)
@pytest.mark.parametrize("label", SAMPLERS)
def test_any_two_names_can_be_fused(label, schedule_name):
    sampler, found = split_sampler_name(f"{label} {schedule_name}")
    assert (find_sampler(sampler).label, found) == (label, schedule_name)
    assert find_sampler(split_sampler_name(label)[0]).label == label
