"""Linear multistep methods: a step along the slopes dx/dsigma = (x - denoised) / sigma of the last four."""

from collections.abc import Iterator, Sequence
from math import prod

from pochade.diffusion.parametrization import Denoise
from pochade.diffusion.samplers.step import Noise, SamplerStep, approach, transitions
from pochade.ops import Tensor

EVEN_WEIGHTS: tuple[tuple[float, ...], ...] = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Adams-Bashforth weights for equal steps, orders 1 to 4; the latest slope first."""


def lms(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Iterator[SamplerStep]:
    """The Adams-Bashforth method in sigma, for unequal steps (Hairer et al. 1993, section III.5).

    Order 4, after lower orders at the start; one evaluation per step; draws no noise. The last step, to sigma
    0, is Euler's: it may be many times longer than those before, too long to extrapolate a cubic.
    """
    levels: list[float] = []
    slopes: list[Tensor] = []
    for index, sigma, after in transitions(sigmas):
        denoised = denoise(x, sigma)
        levels = [sigma, *levels[:3]]
        slopes = [(x - denoised) / sigma, *slopes[:3]]
        x = approach(x, denoised, after / sigma)
        if after > 0:
            x = _corrected(x, after - sigma, slopes, _weights(levels, after))
        yield SamplerStep(index, len(sigmas) - 1, x, denoised)


def plms(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Iterator[SamplerStep]:
    """Pseudo linear multistep: Liu et al. 2022, algorithm 2, with its cheaper start.

    The weights are those of equal steps, although the steps in sigma are not equal; so the order is 2
    despite four slopes. The first step is Heun's, with two evaluations; each further one takes one. The last
    step, to sigma 0, is Euler's. Draws no noise.
    """
    slopes: list[Tensor] = []
    for index, sigma, after in transitions(sigmas):
        denoised = denoise(x, sigma)
        slopes = [(x - denoised) / sigma, *slopes[:3]]
        x = approach(x, denoised, after / sigma)
        if after > 0:
            known, weights = slopes, EVEN_WEIGHTS[len(slopes) - 1]
            if len(slopes) == 1:
                known, weights = [*slopes, (x - denoise(x, after)) / after], (0.5, 0.5)
            x = _corrected(x, after - sigma, known, weights)
        yield SamplerStep(index, len(sigmas) - 1, x, denoised)


def _corrected(x: Tensor, length: float, slopes: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Step along slopes[0], corrected to the weighted mean of all slopes; the weights sum to 1.

    As a correction, since the slopes are nearly equal where sigma is large, and the step itself is exact.
    """
    for slope, weight in zip(slopes[1:], weights[1:], strict=True):
        x = x + length * weight * (slope - slopes[0])
    return x


def _weights(levels: Sequence[float], after: float) -> list[float]:
    """Return the mean of each Lagrange polynomial of `levels` from levels[0] to `after`.

    They are at most cubic, so the Gauss-Legendre rule of two nodes is exact.
    """
    middle, reach = (levels[0] + after) / 2, (after - levels[0]) / 2 / 3**0.5
    return [
        sum(
            prod((node - other) / (level - other) for other in levels if other != level)
            for node in (middle - reach, middle + reach)
        )
        / 2
        for level in levels
    ]
