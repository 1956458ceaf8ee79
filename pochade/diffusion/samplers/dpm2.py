"""Single steps of order 2 with a trial in the middle of log sigma, and their ancestral forms."""

from collections.abc import Iterator, Sequence

from pochade.diffusion.parametrization import Denoise
from pochade.diffusion.samplers.euler import ancestral
from pochade.diffusion.samplers.step import Noise, SamplerStep, approach, transitions
from pochade.ops import Tensor


def dpm2(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Iterator[SamplerStep]:
    """Use the slope dx/dsigma in the middle of log sigma for the whole step.

    k-diffusion's 'dpm_2': the midpoint of DPM-Solver-2 (Lu et al. 2022a, algorithm 1) with steps linear in
    sigma. Order 2, two evaluations per step; the last step, to sigma 0, is Euler's. Draws no noise.
    """
    return dpm2_ancestral(denoise, x, sigmas, noise, eta=0.0)


def dpm2_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0
) -> Iterator[SamplerStep]:
    """DPM2 to below the next noise level, and fresh noise up to it; see `euler_ancestral`.

    Two evaluations and one noise per step. With eta 0 it is DPM2. With noise the pictures' distribution is
    still right to order 2, but single pictures forget their start with order 1 only.
    """
    for index, sigma, after in transitions(sigmas):
        denoised = denoise(x, sigma)
        down, up = ancestral(sigma, after, eta)
        if down == 0:
            x = denoised
        else:
            middle = (sigma * down) ** 0.5
            slope = (x - denoised) / sigma
            trial = approach(x, denoised, middle / sigma)
            x = approach(x, denoised, down / sigma)
            denoised = denoise(trial, middle)
            x = x + (down - sigma) * ((trial - denoised) / middle - slope)
        if up > 0:
            x = x + up * noise()
        yield SamplerStep(index, len(sigmas) - 1, x, denoised)


def dpmpp_2s_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0
) -> Iterator[SamplerStep]:
    """DPM-Solver++(2S) to below the next noise level, and fresh noise up to it.

    Lu et al. 2022, algorithm 1 with r = 1/2: the denoised latent in the middle of log sigma is used for the
    whole step. Two evaluations and one noise per step; the last step, to sigma 0, is Euler's. Orders as DPM2
    a's.
    """
    for index, sigma, after in transitions(sigmas):
        denoised = denoise(x, sigma)
        down, up = ancestral(sigma, after, eta)
        if down > 0:
            middle = (sigma * down) ** 0.5
            denoised = denoise(approach(x, denoised, middle / sigma), middle)
        x = approach(x, denoised, down / sigma)
        if up > 0:
            x = x + up * noise()
        yield SamplerStep(index, len(sigmas) - 1, x, denoised)
