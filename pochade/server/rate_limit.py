"""How often: token buckets by name, in bounded memory."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST = 10_000
"""Names that are remembered; the one that was quiet for the longest is forgotten."""


@dataclass(frozen=True)
class Rate:
    """per_s: what comes back each second. burst: how much there is at first, and at the most."""

    per_s: float
    burst: float


class Buckets:
    """clock: seconds that only grow."""

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        self._rate, self._clock = rate, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, name: str, cost: float = 1.0) -> float:
        """0 if there was enough, which is then taken; else the seconds until there will be."""
        now, left = self._clock(), self._now(name)
        wait = max(0.0, (cost - left) / self._rate.per_s)
        self._left[name] = (left if wait else left - cost), now
        self._left.move_to_end(name)
        if len(self._left) > MOST:
            self._left.popitem(last=False)
        return wait

    def lack_s(self, name: str, cost: float = 1.0) -> float:
        """The seconds until there will be enough, 0 for now. Nothing is taken."""
        return max(0.0, (cost - self._now(name)) / self._rate.per_s)

    def _now(self, name: str) -> float:
        now = self._clock()
        left, then = self._left.get(name, (self._rate.burst, now))
        return min(self._rate.burst, left + (now - then) * self._rate.per_s)
