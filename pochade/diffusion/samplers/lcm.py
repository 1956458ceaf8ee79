"""Sampling from a consistency model."""

from collections.abc import Iterator, Sequence

from pochade.diffusion.parametrization import Denoise
from pochade.diffusion.samplers.step import Noise, SamplerStep, transitions
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
