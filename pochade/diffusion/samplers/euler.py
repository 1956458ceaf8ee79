"""Euler, its ancestral form, DDIM, and Heun."""

from collections.abc import Iterator, Sequence

from pochade.diffusion.parametrization import Denoise
from pochade.diffusion.samplers.step import Noise, SamplerStep, approach, transitions
from pochade.ops import Tensor


def euler(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Iterator[SamplerStep]:
    """Euler's method on the probability-flow equation dx/dsigma = (x - denoised) / sigma.

    Karras et al. 2022, algorithm 1 without its correction. Order 1; draws no noise.
    """
    for index, sigma, after in transitions(sigmas):
        denoised = denoise(x, sigma)
        x = approach(x, denoised, after / sigma)
        yield SamplerStep(index, len(sigmas) - 1, x, denoised)


def euler_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0
) -> Iterator[SamplerStep]:
    """Step below the next noise level and add fresh noise up to it.

    With eta 1 this is ancestral sampling (Ho et al. 2020, algorithm 2); in between, Song et al. 2020a
    (DDIM), equations 12 and 16, written in x = data + sigma * noise. Weak order 1.
    """
    for index, sigma, after in transitions(sigmas):
        denoised = denoise(x, sigma)
        down, up = ancestral(sigma, after, eta)
        x = approach(x, denoised, down / sigma)
        if up > 0:
            x = x + up * noise()
        yield SamplerStep(index, len(sigmas) - 1, x, denoised)


def ddim(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 0.0
) -> Iterator[SamplerStep]:
    """Song et al. 2020a, equations 12 and 16; eta 0 draws no noise, eta 1 is ancestral sampling.

    In the frame of this package it is one algorithm with Euler (eta 0) and Euler a (eta 1); by convention it
    has a schedule of its own.
    """
    return euler_ancestral(denoise, x, sigmas, noise, eta)


def ancestral(sigma: float, after: float, eta: float) -> tuple[float, float]:
    """Return (down, up): the level to step to and the deviation of the noise to add, down^2 + up^2 = after^2.

    up is sigma_t of Song et al. 2020a, equation 16, per unit of data.
    """
    up = min(after, eta * after * (1 - (after / sigma) ** 2) ** 0.5)
    return (after**2 - up**2) ** 0.5, up


def heun(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Iterator[SamplerStep]:
    """Heun's method: an Euler step, then the mean of the slopes at its two ends.

    Karras et al. 2022, algorithm 1 (with S_churn = 0). Order 2, two evaluations per step; the last step, to
    sigma 0, is Euler's. Draws no noise.
    """
    for index, sigma, after in transitions(sigmas):
        x, denoised = heun_step(denoise, x, sigma, after)
        yield SamplerStep(index, len(sigmas) - 1, x, denoised)


def heun_step(denoise: Denoise, x: Tensor, sigma: float, after: float) -> tuple[Tensor, Tensor]:
    """Return (x, denoised) after one step of Heun's method, or Euler's if it ends at sigma 0."""
    denoised = denoise(x, sigma)
    predicted = approach(x, denoised, after / sigma)
    if after == 0:
        return predicted, denoised
    slope = (x - denoised) / sigma
    denoised = denoise(predicted, after)
    return predicted + (after - sigma) / 2 * ((predicted - denoised) / after - slope), denoised
