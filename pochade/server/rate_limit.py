"""Rate limits: token buckets by name, in bounded memory."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_NAMES = 10_000
"""Maximum number of stored names; the least recently used one is dropped."""


@dataclass(frozen=True)
class Rate:
    """A rate. per_s: tokens refilled each second. burst: size of the bucket."""

    per_s: float
    burst: float


class TokenBuckets:
    """A token bucket for each name. clock: monotonic seconds."""

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        self._rate, self._clock = rate, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, name: str, cost: float = 1.0) -> float:
        """Take tokens; return 0, or the seconds until there are enough."""
        now, left = self._clock(), self._now(name)
        wait = max(0.0, (cost - left) / self._rate.per_s)
        self._left[name] = (left if wait else left - cost), now
        self._left.move_to_end(name)
        if len(self._left) > MAX_NAMES:
            self._left.popitem(last=False)
        return wait

    def lack_s(self, name: str, cost: float = 1.0) -> float:
        """Return the seconds until there are enough tokens, without taking any."""
        return max(0.0, (cost - self._now(name)) / self._rate.per_s)

    def _now(self, name: str) -> float:
        now = self._clock()
        left, then = self._left.get(name, (self._rate.burst, now))
        return min(self._rate.burst, left + (now - then) * self._rate.per_s)
