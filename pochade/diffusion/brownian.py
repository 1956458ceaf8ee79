"""Brownian noise: one path for each picture, so that a stochastic sampler's noise does not depend on its
steps.

The noise that a sampler's SDE adds between two noise levels is the increment of a Brownian path between two
times. With smaller steps on the same path the picture converges, as it does without noise. Independent draws
would follow another path for each number of steps.
"""

from collections.abc import Callable, Sequence
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from pochade.diffusion.noise import box_muller, check_seed, philox

Floats = NDArray[np.float64]
Path = Callable[[float, float, float], NDArray[np.float32]]
"""(sigma, next sigma, eta) -> the path's increment between them, of unit variance."""

FROM, TO = -10.0, 6.0
"""The range of lambda = -log sigma that the path covers: sigma 22026 to 0.0025. The noise levels of all
models lie within it, except for the step to 0, which draws no noise."""

DEPTH = 13
CELLS: int = 2**DEPTH
"""The number of points of the path, evenly spaced in lambda, 0.002 apart: a third of one of 1,000 steps."""

PATH = 1
"""The second word of the counter. The draws of `noise.picture_noise` have 0 there."""


class BrownianPath:
    """The Brownian path W of one picture, in the time t = sigma^(-2 eta).

    The middle of each interval is drawn given its ends (Levy's construction) as a function of seed and
    position alone, and intervals are halved in lambda. So the path depends neither on earlier calls nor on
    the noise levels of a schedule. shape: of the picture's latent, (C, H, W).
    """

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        check_seed(seed)
        self._key = seed & 0xFFFFFFFF, seed >> 32
        self._shape = shape
        self._eta = 0.0
        self._known: dict[int, Floats] = {}

    def __call__(self, sigma: float, after: float, eta: float) -> NDArray[np.float32]:
        """Return the increment from noise level `sigma` to `after`, divided by its deviation. eta must be
        positive."""
        if eta != self._eta:
            self._eta, self._known = eta, {}
        first, last = sorted((_cell(sigma), _cell(after)))
        if first == last:  # less than a cell apart: the cell's
            first, last = (first, last + 1) if last < CELLS else (first - 1, last)
        at_start, at_end = self._at(first), self._at(last)
        deviation = (self._time(last) - self._time(first)) ** 0.5
        increment: NDArray[np.float32] = ((at_end - at_start) / deviation).astype(np.float32)
        return increment.reshape(self._shape)

    def _time(self, place: int) -> float:
        return exp(2 * self._eta * (FROM + (TO - FROM) * place / CELLS))

    def _at(self, place: int) -> Floats:
        """W at one of the points 0 to CELLS; it is 0 at the first. Intermediate points are cached."""
        low, high, node = 0, CELLS, 1
        at_low: Floats = np.zeros(int(np.prod(self._shape)))
        at_high = self._value(0, at_low, (self._time(high) - self._time(low)) ** 0.5)
        values = {0: at_high}
        while low < place < high:
            middle = (low + high) // 2
            start, halfway, end = (self._time(each) for each in (low, middle, high))
            share = (halfway - start) / (end - start)
            mean = at_low + share * (at_high - at_low)
            values[node] = self._value(node, mean, (share * (end - halfway)) ** 0.5)
            if place < middle:
                high, at_high, node = middle, values[node], 2 * node
            else:
                low, at_low, node = middle, values[node], 2 * node + 1
        self._known = values
        return at_low if place == low else at_high

    def _value(self, node: int, mean: Floats, deviation: float) -> Floats:
        """W at a node, drawn unless it is cached. Node 0 is the path's end, 1 its middle, and 2 n and 2 n + 1
        are the middles of the halves on both sides of n."""
        if node in self._known:
            return self._known[node]
        counter = np.zeros((4, len(mean)), np.uint32)
        counter[0], counter[1] = node, PATH
        counter[2] = np.arange(len(mean), dtype=np.uint32)
        first, second, _, _ = philox(counter, self._key)
        drawn: Floats = mean + deviation * box_muller(first, second)
        return drawn


def batch_path(seeds: Sequence[int], shape: tuple[int, int, int]) -> Path:
    """Return the paths of a batch as one: (B, C, H, W) float32, one seed per picture."""
    paths = [BrownianPath(seed, shape) for seed in seeds]
    return lambda sigma, after, eta: np.stack([path(sigma, after, eta) for path in paths])


def _cell(sigma: float) -> int:
    """The index of the point nearest to a noise level."""
    place: int = round((-log(sigma) - FROM) / (TO - FROM) * CELLS)
    return max(0, min(CELLS, place))
