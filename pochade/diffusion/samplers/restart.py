"""Restart sampling: Heun's method that returns to a higher noise level, which contracts errors (Xu et al.
2023)."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from pochade.diffusion.parametrization import Denoise
from pochade.diffusion.samplers.euler import heun_step
from pochade.diffusion.samplers.step import Noise, SamplerStep
from pochade.ops import Tensor

RHO = 7.0
"""Levels are spaced evenly in sigma ** (1 / RHO), as in Karras' schedule."""

FROM, TO = 0.1, 2.0
"""The noise levels between which a restart moves: the published interval for text-to-image."""


def restart(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Iterator[SamplerStep]:
    """Heun's method down to sigma 0.1, then noise back up to sigma 2 and down again, once or twice.

    Xu et al. 2023, algorithm 1. The steps of the restarts are part of the requested number, divided as in
    A1111: fewer than 20 make no restart, 20 to 35 one of 9 steps, more two of a quarter of the steps. The
    first pass then has correspondingly fewer steps, over which the given sigmas are spread.

    Order 2, two evaluations per step, one noise per restart; the step to sigma 0 is Euler's.
    """
    plan = restarts(sigmas)
    level = plan[0][0]
    for index, (sigma, after) in enumerate(plan):
        if sigma > level:
            x = x + (sigma**2 - level**2) ** 0.5 * noise()
        x, denoised = heun_step(denoise, x, sigma, after)
        level = after
        yield SamplerStep(index, len(plan), x, denoised)


def restarts(sigmas: Sequence[float]) -> list[tuple[float, float]]:
    """Return (sigma, next sigma) of each step; a step that begins above the end of the last is a restart."""
    steps = len(sigmas) - 1
    times, length = (0, 0) if steps < 20 else (1, 9) if steps < 36 else (2, steps // 4)
    levels = _spread([float(sigma) for sigma in sigmas], steps - times * length)
    low, high = _nearest(levels, FROM), _nearest(levels, TO)
    if times == 0 or low <= high:  # few steps, or a schedule that hardly visits the interval
        return list(pairwise(float(sigma) for sigma in sigmas))
    again = _resampled([levels[high], levels[low]], length + 1)
    parts = levels[: low + 1], *[again] * times, levels[low:]
    return [step for part in parts for step in pairwise(part)]


def _nearest(levels: Sequence[float], goal: float) -> int:
    """Return the index of the level above 0 that is nearest to `goal`."""
    return min((i for i, level in enumerate(levels) if level > 0), key=lambda i: abs(levels[i] - goal))


def _spread(levels: list[float], steps: int) -> list[float]:
    """Return the schedule with another number of steps: exact for Karras', approximate for others."""
    if steps == len(levels) - 1:
        return levels
    if levels[-1] == 0:
        return [*_resampled(levels[:-1], steps), 0.0]
    return _resampled(levels, steps + 1)


def _resampled(levels: list[float], count: int) -> list[float]:
    """Interpolate to `count` levels from the first to the last, linearly in sigma ** (1 / RHO)."""
    places = np.linspace(0, len(levels) - 1, count)[1:-1]
    inner = np.interp(places, np.arange(len(levels)), np.array(levels) ** (1 / RHO)) ** RHO
    return [levels[0], *inner.tolist(), levels[-1]]
