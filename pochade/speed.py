"""What may be left out of a drawing for speed, and the three settings that people choose from.

What each costs was measured: docs/performance.md; why it is so: docs/decisions/0029-where-whole-steps-pay.md
and docs/decisions/0039-held-noise.md.
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
    held: nothing is computed where the noise that the step before found can serve. Where it cannot, the rest
        of this says what is computed.
    """

    guided: bool = True
    whole: bool = True
    layers: int = 0
    held: bool = False


EVERYTHING = StepWork()

EXACT = "exact"
"""The name of the setting that leaves nothing out."""

Stretches = tuple[tuple[float, float], ...]
"""Of the way from noise to the picture, one after another up to 1: (end, gap)."""


@dataclass(frozen=True, kw_only=True)
class Economy:
    """What is left out where on the way from noise (0) to the picture (1, see `way`).

    guided: from where to where both prompts are evaluated (Kynkaanniemi et al. 2024, "Applying guidance in a
        limited interval"). A step that any part of lies between is guided.
    whole: the whole UNet is computed in the first step, and in one that is at least the gap of its stretch
        further on than the last; in the others only its last `layers` layers (Ma et al. 2024, "DeepCache").
        Empty: in every step.
    stochastic: stands for `whole` with samplers that add noise. Empty: `whole` does.
    held: of the steps that are not whole, one that is nearer than the gap of its stretch to the last that was
        computed takes over the noise that this one found, and nothing is computed. Not with samplers that
        add noise, which is not the noise that was found. Empty: none.

    Distances on the way, not numbers of steps: deep features age with the noise level, however many steps
    there are to it, and a model of few steps gets every one whole.
    """

    guided: tuple[float, float] = (0.0, 1.0)
    whole: Stretches = ()
    stochastic: Stretches = ()
    held: Stretches = ()
    layers: int = 1

    def __post_init__(self) -> None:
        expect("layers", self.layers, 1, 1000)
        first, last = self.guided
        if not 0 <= first <= last <= 1:
            raise InvalidRequest(f"guided is {self.guided}; it goes from 0 up to 1")
        for name in ("whole", "stochastic", "held"):
            _check_stretches(name, getattr(self, name))

    def plan(self, places: Sequence[float], *, stochastic: bool = False) -> list[StepWork]:
        """What is computed in each step.

        places: where on the way the steps begin, in order up to 1; below 0 in purer noise than Stable
        Diffusion begins with. stochastic: whether the sampler adds noise.
        """
        guided = [self._guides(*step) for step in zip(places, [*places[1:], 1.0], strict=True)]
        stretches = self.stochastic if stochastic and self.stochastic else self.whole
        if not stretches:
            return [StepWork(guided=guides) for guides in guided]
        plan: list[StepWork] = []
        last_whole = last = places[0] if places else 0.0
        for place, guides in zip(places, guided, strict=True):
            whole = not plan or _far_enough(stretches, last_whole, place)
            held = (
                not whole and not stochastic and bool(self.held) and not _far_enough(self.held, last, place)
            )
            last_whole = place if whole else last_whole
            last = last if held else place
            plan.append(StepWork(guided=guides, whole=whole, layers=self.layers, held=held))
        return plan

    def _guides(self, begin: float, end: float) -> bool:
        first, last = self.guided
        return last > 0 and (end > first + ROUNDING or first == 0) and (begin < last - ROUNDING or last == 1)


def _check_stretches(name: str, stretches: Stretches) -> None:
    ends = [0.0, *(end for end, _ in stretches)]
    if stretches and (ends != sorted(ends) or ends[-1] != 1 or min(gap for _, gap in stretches) < 0):
        raise InvalidRequest(f"{name} is {stretches}; stretches end one after another, the last at 1")


def _far_enough(stretches: Stretches, last: float, place: float) -> bool:
    gap = next(gap for end, gap in stretches if place < end - ROUNDING or end == 1)
    return place - last >= gap - ROUNDING


HELD: Stretches = ((0.0, 0.2), (0.75, 0.06), (1.0, 0.2))
"""In pure noise every step between whole ones, then not two in a row of twenty, towards the end three."""

SPEEDS: Mapping[str, Economy] = MappingProxyType(
    {
        "exact": Economy(),
        "balanced": Economy(
            whole=((0.0, 0.2), (0.35, 0.1), (0.65, 0.05), (0.8, 0.1), (1.0, 0.35)),
            stochastic=((0.0, 0.4), (0.25, 0.13), (0.45, 0.03), (0.8, 0.07), (1.0, 0.35)),
            held=HELD,
        ),
        "fast": Economy(
            whole=((0.0, 0.2), (0.8, 0.14), (1.0, 0.35)),
            stochastic=((0.0, 0.4), (0.25, 0.13), (0.35, 0.1), (0.6, 0.055), (0.8, 0.11), (1.0, 0.35)),
            held=HELD,
        ),
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
