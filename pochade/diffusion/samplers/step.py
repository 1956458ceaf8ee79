"""The step that all samplers yield, and two updates that they share."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log

from pochade.ops import Tensor

Noise = Callable[[], Tensor]
"""Returns fresh unit-normal noise of the latent's shape and type."""

Evaluation = tuple[float, Tensor]
"""A noise level and the denoised latent estimated there."""


@dataclass(frozen=True, eq=False)
class SamplerStep:
    """A finished step: number `index` (from 0) of `steps`.

    steps: one per transition between sigmas, except in samplers that choose their own. In 'DPM adaptive' it
        is an estimate that may change; but the step with index = steps - 1 is the last in every sampler.
    x: the latent after it. denoised: the latest estimate of the finished latent, for previews.
    """

    index: int
    steps: int
    x: Tensor
    denoised: Tensor


def transitions(sigmas: Sequence[float]) -> Iterator[tuple[int, float, float]]:
    """Yield (index, sigma, next sigma) of each step, as Python floats: numpy's float64 scalars would convert
    a float32 latent to float64."""
    for index, (sigma, after) in enumerate(pairwise(sigmas)):
        yield index, float(sigma), float(after)


def approach(x: Tensor, denoised: Tensor, ratio: float) -> Tensor:
    """Scale the difference of x and `denoised` by `ratio`: from noise level sigma to ratio * sigma.

    The exact solution of the probability-flow equation while `denoised` is constant, and the first-order step
    of every method here. Written so that no large terms cancel, even from sigma 4096, and that ratio 0 gives
    `denoised` itself.
    """
    return denoised + ratio * (x - denoised)


def midway(now: Evaluation, before: Evaluation | None, after: float) -> Tensor:
    """Extrapolate the denoised latent from the last two evaluations to the middle of the next step.

    Linear in lambda = -log sigma: D of DPM-Solver++, algorithm 2 (Lu et al. 2022). On the first step, or if
    the coming one ends at sigma 0 (lambda infinite), it is the last evaluation itself.
    """
    sigma, denoised = now
    if before is None or after == 0:
        return denoised
    earlier_sigma, earlier = before
    share = log(sigma / after) / log(earlier_sigma / sigma) / 2
    return denoised + share * (denoised - earlier)
