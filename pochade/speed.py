"""What may be left out of a drawing for speed, and the three settings that people choose from.

What each costs was measured: docs/performance.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pochade.errors import InvalidRequest, expect


@dataclass(frozen=True, kw_only=True)
class StepWork:
    """What is computed in one step.

    guided: the negative prompt's prediction is computed; else its last difference from the prompt's is used
        again, if `held`, or guidance is off.
    whole: the whole UNet; else only its last `layers` layers, on what the deeper ones gave before.
    layers: 0 if nothing will be used again.
    """

    guided: bool = True
    held: bool = True
    whole: bool = True
    layers: int = 0


EVERYTHING = StepWork()


@dataclass(frozen=True, kw_only=True)
class Economy:
    """What is left out in which steps.

    guided: shares of the steps between which both prompts are evaluated (Kynkaanniemi et al. 2024, "Applying
        guidance in a limited interval").
    guided_every: within them, in every n-th step; in the ones between, the last difference of the two
        predictions is used again (Castillo et al. 2023, "Adaptive guidance").
    whole_every: the whole UNet in every n-th step, in the others only its last `layers` layers (Ma et al.
        2024). The first and the last `whole_ends` steps are always whole.
    """

    guided: tuple[float, float] = (0.0, 1.0)
    guided_every: int = 1
    whole_every: int = 1
    whole_ends: int = 1
    layers: int = 1

    def __post_init__(self) -> None:
        for name in ("guided_every", "whole_every", "layers"):
            expect(name, getattr(self, name), 1, 1000)
        first, last = self.guided
        if not 0 <= first <= last <= 1:
            raise InvalidRequest(f"guided is {self.guided}; it goes from 0 up to 1")

    def work(self, step: int, steps: int) -> StepWork:
        """What is computed in a step, counted from 0."""
        first, last = (round(share * steps) for share in self.guided)
        within = first <= step < last
        ends = step < self.whole_ends or step >= steps - self.whole_ends
        return StepWork(
            guided=within and (step - first) % self.guided_every == 0,
            held=within,
            whole=ends or (step - first) % self.whole_every == 0,
            layers=self.layers if self.whole_every > 1 else 0,
        )


SPEEDS: Mapping[str, Economy] = MappingProxyType(
    {
        "exact": Economy(),
        "balanced": Economy(guided=(0.1, 1.0), guided_every=2, whole_every=2),
        "fast": Economy(guided=(0.1, 0.8), whole_every=3),
    }
)


def find_speed(name: str) -> Economy:
    """By its name. Raises InvalidRequest for another one."""
    if name not in SPEEDS:
        raise InvalidRequest(f"speed '{name}' is unknown; one of: {', '.join(SPEEDS)}")
    return SPEEDS[name]
