"""Step by step against diffusers' schedulers: equal sigmas, equal noise, a toy model that is not linear.

diffusers keeps latents either as data + sigma * noise, like us, or scaled to unit variance ("vp"); the
latter are compared after multiplication by sqrt(1 + sigma^2). Where it rounds timesteps (DPM-Solver and
UniPC with Karras sigmas) nothing changes here, since the toy is given the sigma itself.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)

from pochade.diffusion.samplers import SAMPLERS
from pochade.diffusion.samplers.euler import ancestral
from pochade.diffusion.schedule import noise_schedule, sigmas

# diffusers 0.42 asks numpy for arrays in a way that numpy 2 deprecates
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

STEPS = 20
SHAPE = 2, 4, 8, 8
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def toy(x, sigma):
    """A raw eps prediction: nonlinear, mixes neighbours, and bends with the noise level. x: unit variance."""
    mixed = x + 0.4 * np.roll(x, 1, axis=-1) * np.cos(x)
    level = x.dtype.type(sigma / (1 + sigma))
    return (np.tanh(1.5 * mixed - level) + 0.3 * np.sin(3 * x * level)).astype(x.dtype)


def denoise(x, sigma):
    return x - sigma * toy(x / (1 + sigma * sigma) ** 0.5, sigma)


def noises(dtype=np.float32):
    """A fresh stream of noise, the same each time."""
    generator = torch.Generator().manual_seed(11)
    kind = torch.float64 if dtype == np.float64 else torch.float32
    return lambda: torch.randn(SHAPE, generator=generator, dtype=kind).numpy()


def ours(label, levels, start, **options):
    steps = SAMPLERS[label].function(denoise, start, levels, noises(start.dtype), **options)
    return [step.x for step in steps]


def start_at(sigma):
    return sigma * np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)


def theirs(scheduler, levels, start, vp, **step_options):
    """Latents after each call of the scheduler's step, as data + sigma * noise, where `levels[i]` is the
    level of call i; and the level after it."""
    x = torch.tensor(start / (1 + levels[0] ** 2) ** 0.5 if vp else start)
    latents = []
    for index, timestep in enumerate(scheduler.timesteps):
        sigma, after = levels[index], levels[index + 1]
        scaled = x if vp else scheduler.scale_model_input(x, timestep)
        raw = torch.tensor(toy(scaled.numpy(), sigma))
        given = {name: make() for name, make in step_options.items()}
        x = scheduler.step(raw, timestep, x, **given).prev_sample
        latents.append(x.numpy() * (1 + after**2) ** 0.5 if vp else x.numpy())
    return latents


def assert_same(mine, others, tolerance=1e-5, steps=STEPS, dtype=np.float32):
    assert len(mine) == len(others) == steps
    for a, b in zip(mine, others, strict=True):
        assert a.dtype == dtype
        assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)


@pytest.mark.parametrize("spacing", [{"use_karras_sigmas": True}, {"timestep_spacing": "linspace"}])
def test_euler(spacing):
    scheduler = EulerDiscreteScheduler(**SD, **spacing)
    scheduler.set_timesteps(STEPS)
    levels = scheduler.sigmas.tolist()
    start = start_at(levels[0])
    assert_same(ours("Euler", levels, start), theirs(scheduler, levels, start, vp=False))


def test_euler_ancestral():
    scheduler = EulerAncestralDiscreteScheduler(**SD, timestep_spacing="linspace")
    scheduler.set_timesteps(STEPS)
    levels = scheduler.sigmas.tolist()
    start = start_at(levels[0])
    generator = torch.Generator().manual_seed(11)
    assert_same(
        ours("Euler a", levels, start),
        theirs(scheduler, levels, start, vp=False, generator=lambda: generator),
    )


@pytest.mark.parametrize("spacing", [{"use_karras_sigmas": True}, {"timestep_spacing": "linspace"}])
def test_heun(spacing):
    scheduler = HeunDiscreteScheduler(**SD, **spacing)
    scheduler.set_timesteps(STEPS)
    calls = scheduler.sigmas.tolist()  # each level but the first and the last twice: two calls make one step
    levels = [*calls[::2], 0.0]
    start = start_at(levels[0])
    # the second call of a step evaluates at the level where the step ends
    per_call = [levels[0]] + [level for level in levels[1:-1] for _ in range(2)] + [0.0]
    latents = theirs(scheduler, per_call, start, vp=False)
    assert_same(ours("Heun", levels, start), latents[1::2] + latents[-1:])


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_ddim(eta):
    """At the timesteps of our own DDIM schedule, and a final level of 0 (set_alpha_to_one)."""
    scheduler = DDIMScheduler(
        **SD, timestep_spacing="leading", steps_offset=1, set_alpha_to_one=True, clip_sample=False
    )
    scheduler.set_timesteps(STEPS)
    levels = sigmas(noise_schedule(), "DDIM", STEPS)
    start = start_at(levels[0])
    noise = noises()
    others = theirs(
        scheduler, levels, start, vp=True, eta=lambda: eta, variance_noise=lambda: torch.tensor(noise())
    )
    assert_same(ours("DDIM", levels, start, eta=eta), others)


@pytest.mark.parametrize("spacing", [{"use_karras_sigmas": True}, {"timestep_spacing": "linspace"}])
@pytest.mark.parametrize(
    ("label", "algorithm"), [("DPM++ 2M", "dpmsolver++"), ("DPM++ 2M SDE", "sde-dpmsolver++")]
)
def test_dpm_solver(label, algorithm, spacing):
    scheduler = DPMSolverMultistepScheduler(
        **SD,
        **spacing,
        algorithm_type=algorithm,
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
        lower_order_final=True,
    )
    scheduler.set_timesteps(STEPS)
    levels = scheduler.sigmas.tolist()
    start = start_at(levels[0])
    noise = noises()
    others = theirs(scheduler, levels, start, vp=True, variance_noise=lambda: torch.tensor(noise()))
    assert_same(ours(label, levels, start), others)


@pytest.mark.parametrize("spacing", [{"use_karras_sigmas": True}, {"timestep_spacing": "linspace"}])
def test_unipc(spacing):
    """diffusers' defaults: order 2, bh2, predicting data, corrector on, first order at the end."""
    scheduler = UniPCMultistepScheduler(**SD, **spacing)
    assert scheduler.config.solver_order == 2
    assert scheduler.config.solver_type == "bh2"
    scheduler.set_timesteps(STEPS)
    levels = scheduler.sigmas.tolist()
    start = start_at(levels[0])
    assert_same(ours("UniPC order 2", levels, start), theirs(scheduler, levels, start, vp=True))


@pytest.mark.parametrize("spacing", [{"use_karras_sigmas": True}, {"timestep_spacing": "linspace"}])
@pytest.mark.parametrize(("label", "variant"), [("UniPC", "bh1"), ("UniPC bh2", "bh2")])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, STEPS])
def test_unipc_of_order_3(label, variant, spacing, steps):
    """A1111's settings, which diffusers have too: lower orders at the start and at the end.

    With bh1 their step to sigma 0, which is of order 1 and so Euler's, multiplies 0 by infinity.
    """
    scheduler = UniPCMultistepScheduler(**SD, **spacing, solver_order=3, solver_type=variant)
    scheduler.set_timesteps(steps)
    levels = scheduler.sigmas.tolist()
    start = start_at(levels[0])
    mine, others = ours(label, levels, start), theirs(scheduler, levels, start, vp=True)
    if variant == "bh1":
        others[-1] = mine[-1]
    assert_same(mine, others, steps=steps)


@pytest.mark.parametrize("spacing", [{"use_karras_sigmas": True}, {"timestep_spacing": "linspace"}])
def test_lms(spacing):
    """Their coefficients are integrated numerically, to 1e-4; their last step is not Euler's."""
    scheduler = LMSDiscreteScheduler(**SD, **spacing)
    scheduler.set_timesteps(STEPS)
    levels = scheduler.sigmas.tolist()
    start = start_at(levels[0])
    others = theirs(scheduler, levels, start, vp=False)
    assert_same([*ours("LMS", levels, start)[:-1], others[-1]], others)


@pytest.mark.parametrize("spacing", [{"use_karras_sigmas": True}, {"timestep_spacing": "linspace"}])
def test_dpm2(spacing):
    scheduler = KDPM2DiscreteScheduler(**SD, **spacing)
    scheduler.set_timesteps(STEPS)
    levels = scheduler.sigmas.tolist()[::2]
    start = start_at(levels[0])
    # the second call of a step evaluates in the middle of log sigma
    middles = [(a * b) ** 0.5 for a, b in pairwise(levels[:-1])]
    per_call = [level for both in zip(levels, middles, strict=False) for level in both] + [levels[-2], 0.0]
    latents = theirs(scheduler, per_call, start, vp=False)
    assert_same(ours("DPM2", levels, start), latents[1::2] + latents[-1:])


def test_dpm2_ancestral():
    scheduler = KDPM2AncestralDiscreteScheduler(**SD, timestep_spacing="linspace")
    scheduler.set_timesteps(STEPS)
    levels = scheduler.sigmas.tolist()[::2]
    start = start_at(levels[0])
    downs = [ancestral(a, b, 1.0)[0] for a, b in pairwise(levels[:-1])]
    middles = [(a * b) ** 0.5 for a, b in zip(levels, downs, strict=False)]
    per_call = [level for both in zip(levels, middles, strict=False) for level in both] + [levels[-2], 0.0]
    generator = torch.Generator().manual_seed(11)
    latents = theirs(scheduler, per_call, start, vp=False, generator=lambda: generator)
    assert_same(ours("DPM2 a", levels, start), latents[1::2] + latents[-1:])


@pytest.mark.parametrize("spacing", [{"use_karras_sigmas": True}, {"timestep_spacing": "linspace"}])
def test_dpmpp_3m_without_noise(spacing):
    """Only without: the stochastic third order of diffusers 0.42 has a sign that k-diffusion has not."""
    scheduler = DPMSolverMultistepScheduler(
        **SD,
        **spacing,
        solver_order=3,
        solver_type="heun",
        final_sigmas_type="zero",
        lower_order_final=True,
    )
    scheduler.set_timesteps(STEPS)
    levels = scheduler.sigmas.tolist()
    start = start_at(levels[0])
    mine = ours("DPM++ 3M SDE", levels, start, eta=0.0)
    others = theirs(scheduler, levels, start, vp=True)
    # theirs goes down to order 2 for the last step but one, ours does not
    assert_same([*mine[:-2], *others[-2:]], others)


def test_plms():
    """As Stable Diffusion's own configuration has it. Their last step ends at timestep 0, not at sigma 0."""
    scheduler = PNDMScheduler(**SD, skip_prk_steps=True, timestep_spacing="leading", steps_offset=1)
    scheduler.set_timesteps(STEPS)
    levels = [*sigmas(noise_schedule(), "DDIM", STEPS)[:-1], noise_schedule().sigma_min]
    start = start_at(levels[0])
    # two calls make the first step: the second evaluates where it ends, and starts anew
    per_call = [levels[0], levels[1], *levels[1:]]
    latents = theirs(scheduler, per_call, start, vp=True)
    assert_same(ours("PLMS", levels, start), latents[1:])


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("trained", [SD, {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}])
def test_tcd(eta, trained):
    """Of any model's own schedule. Their last step ends at timestep 0, not at sigma 0.

    In f64: at the high levels where the second schedule begins, f32 rounds by as much as the last pictures'
    tolerance, and how it rounds depends on the processor.
    """
    names = {"beta_schedule": "kind", "beta_start": "beta_start", "beta_end": "beta_end"}
    own = noise_schedule(**{names[name]: value for name, value in trained.items() if name in names})
    scheduler = TCDScheduler(**trained)
    scheduler.alphas_cumprod = torch.tensor(own.alphas_cumprod)
    np.testing.assert_allclose(TCDScheduler(**trained).alphas_cumprod, own.alphas_cumprod, rtol=1e-5)
    scheduler.set_timesteps(STEPS)
    levels = [*sigmas(own, "LCM", STEPS)[:-1], own.sigma_min]
    start = start_at(levels[0]).astype(np.float64)
    generator = torch.Generator().manual_seed(11)
    others = theirs(scheduler, levels, start, vp=True, eta=lambda: eta, generator=lambda: generator)
    assert_same(ours("TCD", levels, start, eta=eta, schedule=own), others, 1e-9, dtype=np.float64)
    single = ours("TCD", levels, start.astype(np.float32), eta=eta, schedule=own)
    assert {each.dtype for each in single} == {np.dtype(np.float32)}
    if trained is not SD and eta == 0.3:
        with pytest.raises(AssertionError):
            assert_same(ours("TCD", levels, start, eta=eta), others, dtype=np.float64)


def test_lcm():
    """With diffusers' boundary scalings, which at these timesteps are too near (0, 1) to matter."""
    scheduler = LCMScheduler(**SD)
    scheduler.set_timesteps(STEPS)
    levels = sigmas(noise_schedule(), "LCM", STEPS)
    start = start_at(levels[0])
    generator = torch.Generator().manual_seed(11)
    assert_same(
        ours("LCM", levels, start), theirs(scheduler, levels, start, vp=True, generator=lambda: generator)
    )
