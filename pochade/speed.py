"""What may be left out of a drawing for speed, and the three settings that people choose from.

What each costs was measured: docs/performance.md; why it is so: docs/decisions/0029-where-whole-steps-pay.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pochade.errors import InvalidRequest, expect

NOISE, CLEAN, BEND = 14.6, 0.03, 7
"""Noise levels that Stable Diffusion draws between, and the power that spaces the others (Karras et al. 2022,
equation 5)."""

ROUNDING = 1e-3
"""Of the way: schedules round their levels, each in its own manner."""


@dataclass(frozen=True, kw_only=True)
class StepWork:
    """What is computed in one step.

    guided: the negative prompt's prediction too; else guidance is off.
    whole: the whole UNet; else only its last `layers` layers, on what the deeper ones gave before.
    layers: 0 if nothing will be used again.
    """

    guided: bool = True
    whole: bool = True
    layers: int = 0


EVERYTHING = StepWork()

EXACT = "exact"
"""The name of the setting that leaves nothing out."""


@dataclass(frozen=True, kw_only=True)
class Economy:
    """What is left out where on the way from noise (0) to the picture (1, see `way`).

    guided: from where to where both prompts are evaluated (Kynkaanniemi et al. 2024, "Applying guidance in a
        limited interval"). A step that any part of lies between is guided.
    whole: stretches of the way, as (end, gap): the whole UNet is computed in the first step, and in one that
        is at least the gap of its stretch further on than the last; in the others only its last `layers`
        layers (Ma et al. 2024, "DeepCache"). Empty: in every step.

    Distances on the way, not numbers of steps: deep features age with the noise level, however many steps
    there are to it, and a model of few steps gets every one whole.
    """

    guided: tuple[float, float] = (0.0, 1.0)
    whole: tuple[tuple[float, float], ...] = ()
    layers: int = 1

    def __post_init__(self) -> None:
        expect("layers", self.layers, 1, 1000)
        first, last = self.guided
        if not 0 <= first <= last <= 1:
            raise InvalidRequest(f"guided is {self.guided}; it goes from 0 up to 1")
        ends = [0.0, *(end for end, _ in self.whole)]
        if self.whole and (ends != sorted(ends) or ends[-1] != 1 or min(gap for _, gap in self.whole) < 0):
            raise InvalidRequest(f"whole is {self.whole}; stretches end one after another, the last at 1")

    def plan(self, places: Sequence[float]) -> list[StepWork]:
        """What is computed in each step. places: where on the way the steps begin, in order up to 1; below 0
        in purer noise than Stable Diffusion begins with."""
        guided = [self._guides(*step) for step in zip(places, [*places[1:], 1.0], strict=True)]
        if not self.whole:
            return [StepWork(guided=guides) for guides in guided]
        plan: list[StepWork] = []
        last = places[0] if places else 0.0
        for place, guides in zip(places, guided, strict=True):
            whole = not plan or place - last >= self._gap(place) - ROUNDING
            last = place if whole else last
            plan.append(StepWork(guided=guides, whole=whole, layers=self.layers))
        return plan

    def _guides(self, begin: float, end: float) -> bool:
        first, last = self.guided
        return last > 0 and (end > first + ROUNDING or first == 0) and (begin < last - ROUNDING or last == 1)

    def _gap(self, place: float) -> float:
        return next(gap for end, gap in self.whole if place < end - ROUNDING or end == 1)


SPEEDS: Mapping[str, Economy] = MappingProxyType(
    {
        "exact": Economy(),
        "balanced": Economy(whole=((0.0, 0.2), (0.35, 0.1), (0.65, 0.05), (0.8, 0.1), (1.0, 0.35))),
        "fast": Economy(whole=((0.0, 0.2), (0.3, 0.14), (0.8, 0.1), (1.0, 0.35))),
    }
)


def way(sigma: float) -> float:
    """How far a noise level is on the way from noise (0) to the picture (1).

    Evenly over the steps of Karras' schedule, whatever schedule the level is of: so it tells how much of the
    picture is there, where timesteps crowd at one end and noise levels at the other. Below 0 for more noise
    than Stable Diffusion begins with.
    """
    begin, end, here = (math.pow(level, 1 / BEND) for level in (NOISE, CLEAN, max(sigma, 0.0)))
    return min(1.0, (begin - here) / (begin - end))


def find_speed(name: str) -> Economy:
    """By its name. Raises InvalidRequest for another one."""
    if name not in SPEEDS:
        raise InvalidRequest(f"speed '{name}' is unknown; one of: {', '.join(SPEEDS)}")
    return SPEEDS[name]
