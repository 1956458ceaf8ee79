"""Speed settings: which computations may be skipped while drawing.

docs/performance.md gives the measured loss of quality; docs/decisions/0029-full-steps.md and
docs/decisions/0039-reused-noise.md give the reasons.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pochade.errors import InvalidRequest, expect

NOISE, CLEAN, BEND = 14.6, 0.03, 7
"""The smallest and largest noise level of Stable Diffusion, and the exponent that spaces the others (Karras
et al. 2022, equation 5)."""

ROUNDING = 1e-3
"""Tolerance of progress values, since schedules round their levels differently."""


@dataclass(frozen=True, kw_only=True)
class StepWork:
    """What is computed in one step.

    guided: whether the negative prompt is evaluated too; else guidance is off.
    full: whether the whole UNet is evaluated; else only its last `layers` layers, on cached deep features.
    layers: 0 if no features will be reused.
    held: reuse the noise that the previous step predicted, and compute nothing. If that is impossible, the
        other fields apply.
    """

    guided: bool = True
    full: bool = True
    layers: int = 0
    held: bool = False


FULL_STEP = StepWork()

EXACT = "exact"
"""The name of the setting that skips nothing."""

Intervals = tuple[tuple[float, float], ...]
"""Consecutive intervals of the progress from noise to picture, up to 1: (end, gap)."""


@dataclass(frozen=True, kw_only=True)
class SpeedProfile:
    """Which computations are skipped between noise (progress 0) and picture (progress 1, see `progress_of`).

    guided: the interval in which both prompts are evaluated (Kynkaanniemi et al. 2024, "Applying guidance in
        a limited interval"). A step that overlaps it is guided.
    full: the whole UNet is evaluated in the first step, and in each step whose distance from the last full
        one is at least the gap of its interval; the others evaluate only its last `layers` layers (Ma et al.
        2024, "DeepCache"). Empty: every step is full.
    stochastic: replaces `full` with samplers that add noise, unless it is empty.
    held: a step that is not full, and nearer than the gap of its interval to the last computed one, reuses
        the noise that was predicted there and computes nothing. It is not used with samplers that add noise,
        which differs from the predicted noise. Empty: no steps are skipped.

    Gaps are distances in progress, not numbers of steps, since deep features become outdated as the noise
    level changes. So few-step models compute every step in full.
    """

    guided: tuple[float, float] = (0.0, 1.0)
    full: Intervals = ()
    stochastic: Intervals = ()
    held: Intervals = ()
    layers: int = 1

    def __post_init__(self) -> None:
        expect("layers", self.layers, 1, 1000)
        first, last = self.guided
        if not 0 <= first <= last <= 1:
            raise InvalidRequest(f"guided is {self.guided}; it must be an interval within 0 to 1")
        for name in ("full", "stochastic", "held"):
            _check_intervals(name, getattr(self, name))

    def plan(self, positions: Sequence[float], *, stochastic: bool = False) -> list[StepWork]:
        """Return what is computed in each step.

        positions: the progress at which each step begins, ascending up to 1; negative above Stable
        Diffusion's largest noise level. stochastic: whether the sampler adds noise.
        """
        guided = [self._guides(*step) for step in zip(positions, [*positions[1:], 1.0], strict=True)]
        intervals = self.stochastic if stochastic and self.stochastic else self.full
        if not intervals:
            return [StepWork(guided=guides) for guides in guided]
        plan: list[StepWork] = []
        last_whole = last = positions[0] if positions else 0.0
        for position, guides in zip(positions, guided, strict=True):
            full = not plan or _far_enough(intervals, last_whole, position)
            held = (
                not full and not stochastic and bool(self.held) and not _far_enough(self.held, last, position)
            )
            last_whole = position if full else last_whole
            last = last if held else position
            plan.append(StepWork(guided=guides, full=full, layers=self.layers, held=held))
        return plan

    def _guides(self, begin: float, end: float) -> bool:
        first, last = self.guided
        return last > 0 and (end > first + ROUNDING or first == 0) and (begin < last - ROUNDING or last == 1)


def _check_intervals(name: str, intervals: Intervals) -> None:
    ends = [0.0, *(end for end, _ in intervals)]
    if intervals and (ends != sorted(ends) or ends[-1] != 1 or min(gap for _, gap in intervals) < 0):
        raise InvalidRequest(f"{name} is {intervals}; the ends of intervals must ascend to 1")


def _far_enough(intervals: Intervals, last: float, position: float) -> bool:
    gap = next(gap for end, gap in intervals if position < end - ROUNDING or end == 1)
    return position - last >= gap - ROUNDING


HELD: Intervals = ((0.0, 0.2), (0.75, 0.06), (1.0, 0.2))
"""Gaps chosen for 20 steps: alternate steps in pure noise, then no two in a row, three near the end."""

SPEEDS: Mapping[str, SpeedProfile] = MappingProxyType(
    {
        "exact": SpeedProfile(),
        "balanced": SpeedProfile(
            full=((0.0, 0.2), (0.35, 0.1), (0.65, 0.05), (0.8, 0.1), (1.0, 0.35)),
            stochastic=((0.0, 0.4), (0.25, 0.13), (0.45, 0.03), (0.8, 0.07), (1.0, 0.35)),
            held=HELD,
        ),
        "fast": SpeedProfile(
            full=((0.0, 0.2), (0.8, 0.14), (1.0, 0.35)),
            stochastic=((0.0, 0.4), (0.25, 0.13), (0.35, 0.1), (0.6, 0.055), (0.8, 0.11), (1.0, 0.35)),
            held=HELD,
        ),
    }
)


def progress_of(sigma: float) -> float:
    """Return the progress of a noise level from noise (0) to picture (1).

    It is uniform over the steps of Karras' schedule, whichever schedule is used, since timesteps are dense at
    one end and noise levels at the other. It is negative above Stable Diffusion's largest noise level.
    """
    begin, end, here = (math.pow(level, 1 / BEND) for level in (NOISE, CLEAN, max(sigma, 0.0)))
    return min(1.0, (begin - here) / (begin - end))


def find_speed(name: str) -> SpeedProfile:
    """Return the profile of this name. Raises InvalidRequest if it is unknown."""
    if name not in SPEEDS:
        raise InvalidRequest(f"speed '{name}' is unknown; one of: {', '.join(SPEEDS)}")
    return SPEEDS[name]
