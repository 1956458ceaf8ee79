"""Samplers for consistency models: LCM and TCD."""

from collections.abc import Iterator, Sequence
from math import floor

from pochade.diffusion.parametrization import Denoise
from pochade.diffusion.samplers.step import Noise, SamplerStep, approach, transitions
from pochade.diffusion.schedule import NoiseSchedule, noise_schedule
from pochade.ops import Tensor


def lcm(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Iterator[SamplerStep]:
    """Multistep consistency sampling: jump to the data, add fresh noise of the next level, jump again.

    Song et al. 2023, algorithm 1; Luo et al. 2023. Made for latent consistency models (2 to 8 steps). The
    boundary scalings of Luo et al. (c_skip, c_out) are left out: at the timesteps that such a model is
    trained with, 19 and above, they differ from (0, 1) by less than 1e-5.
    """
    for index, sigma, after in transitions(sigmas):
        denoised = denoise(x, sigma)
        x = denoised if after == 0 else denoised + after * noise()
        yield SamplerStep(index, len(sigmas) - 1, x, denoised)


def tcd(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise,
    eta: float = 0.3,
    schedule: NoiseSchedule | None = None,
) -> Iterator[SamplerStep]:
    """Strategic stochastic sampling: below the next timestep t, to (1 - eta) t, and noise back up to t.

    Zheng et al. 2024, algorithm 4; eta is their gamma: 0 draws no noise, 1 is nearly LCM.
    schedule: what timesteps mean; without it Stable Diffusion's, which the published models have.
    """
    schedule = noise_schedule() if schedule is None else schedule
    for index, sigma, after in transitions(sigmas):
        denoised = denoise(x, sigma)
        down = after
        if eta > 0 and after > 0:
            down = min(after, schedule.sigma(floor((1 - eta) * schedule.timestep(after))))
        x = approach(x, denoised, down / sigma)
        if down < after:
            x = x + (after**2 - down**2) ** 0.5 * noise()
        yield SamplerStep(index, len(sigmas) - 1, x, denoised)
