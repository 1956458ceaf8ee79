"""UniPC: a predictor, and a corrector that costs no further evaluation (Zhao et al. 2023)."""

from collections.abc import Iterator, Sequence
from math import expm1, factorial, log

import numpy as np

from pochade.diffusion.parametrization import Denoise
from pochade.diffusion.samplers.step import Evaluation, Noise, SamplerStep, approach, transitions
from pochade.ops import Tensor

BH1, BH2 = VARIANTS = ("bh1", "bh2")
"""The function B(h) of the paper's section 3.1 that scales the weights: h, or exp(h) - 1."""


def unipc(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise,
    order: int = 3,
    variant: str = BH1,
) -> Iterator[SamplerStep]:
    """UniPC-p, predicting data: Zhao et al. 2023, algorithms 1 and 2. Draws no noise.

    The evaluation at the predicted point is used twice: it corrects the step to that point and starts the
    next. The first steps are of lower order while fewer points are known, and so are the last ones before
    sigma 0. order: p, at least 1; variant: of VARIANTS. Order 3 and bh1 are A1111's settings.
    """
    steps = len(sigmas) - 1
    to_zero = bool(sigmas[-1] == 0)
    seen: list[Evaluation] = []
    start, correction = x, 1
    for index, sigma, after in transitions(sigmas):
        denoised = denoise(x, sigma)
        if seen:
            x = _stepped(start, seen[:correction], sigma, variant, (sigma, denoised))
        seen = [(sigma, denoised), *seen[: order - 1]]
        correction = min(order, index + 1, steps - index if to_zero else order)
        start = x
        x = denoised if after == 0 else _stepped(x, seen[:correction], after, variant)
        yield SamplerStep(index, steps, x, denoised)


def _stepped(
    x: Tensor, seen: Sequence[Evaluation], after: float, variant: str, end: Evaluation | None = None
) -> Tensor:
    """Return the step from the latest of `seen` to noise level `after`: predicted (UniP), or with `end`, the
    evaluation there, corrected (UniC). Its order is the number of evaluations in `seen`."""
    (sigma, denoised), *earlier = seen
    length = log(sigma / after)
    points = [(log(sigma / level) / length, other) for level, other in earlier]
    if end is not None:
        points.append((1.0, end[1]))
    scale = -length if variant == BH1 else expm1(-length)
    x = approach(x, denoised, after / sigma)
    for (place, other), weight in zip(
        points, _weights([place for place, _ in points], length, scale), strict=True
    ):
        x = x - scale * weight / place * (other - denoised)
    return x


def _weights(places: Sequence[float], length: float, scale: float) -> list[float]:
    """Solve the order conditions R rho = b of section 3.2.

    places: of the known points, in steps from the start of this one: negative, and 1 for its end. With one
    point the weight is 1/2, as in the paper's code, which satisfies the condition to the possible order.
    """
    if len(places) < 2:
        return [0.5] * len(places)
    phi, sides = expm1(-length) / -length - 1, []
    for i in range(1, len(places) + 1):
        sides.append(phi * factorial(i) / scale)
        phi = phi / -length - 1 / factorial(i + 1)
    powers = np.power.outer(np.array(places), np.arange(len(places))).T
    weights: list[float] = np.linalg.solve(powers, np.array(sides)).tolist()
    return weights
