"""Rate limits: token buckets by name, in bounded memory."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST = 10_000
"""Number of names kept; the one unused for the longest is dropped."""


@dataclass(frozen=True)
class Rate:
    """per_s: tokens refilled each second. burst: size of the bucket."""

    per_s: float
    burst: float


class TokenBuckets:
    """clock: monotonic seconds."""

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        self._rate, self._clock = rate, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, name: str, cost: float = 1.0) -> float:
        """Take tokens: 0 if there were enough, else the seconds until there will be."""
        now, left = self._clock(), self._now(name)
        wait = max(0.0, (cost - left) / self._rate.per_s)
        self._left[name] = (left if wait else left - cost), now
        self._left.move_to_end(name)
        if len(self._left) > MOST:
            self._left.popitem(last=False)
        return wait

    def lack_s(self, name: str, cost: float = 1.0) -> float:
        """The seconds until there are enough tokens, 0 for now. Takes nothing."""
        return max(0.0, (cost - self._now(name)) / self._rate.per_s)

    def _now(self, name: str) -> float:
        now = self._clock()
        left, then = self._left.get(name, (self._rate.burst, now))
        return min(self._rate.burst, left + (now - then) * self._rate.per_s)
