"""8-bit arithmetic: the grid on which an operation's input lies, and weights on grids of their own.

A grid maps the 256 values of a byte to evenly spaced numbers, of which 0 is one: `low + step * byte`. The
input of a product lies on one grid; each output channel's weights on another, without an offset. Then the
product is one of bytes, and a multiplication per channel brings it back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

ALL_BITS = 127
"""The largest 8-bit weight. Bytes of inputs are unsigned, those of weights signed and symmetric."""

SAFE_BITS = 63
"""The largest weight where a processor has no instructions for products of bytes: there two products of an
unsigned and a signed byte are added in 16 bits, which 2 * 255 * 63 still fits."""


CACHED = 2**18
"""Numbers that are rounded at a time: as many as a processor's own cache holds, in f32."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the numbers that a product reads lie, once they are divided by `smoothing`.

    low, high: of the byte 0 and of the byte 255. smoothing: (C,), of the input's channels; the weights are
    multiplied by it. So a few large channels take fewer steps from all others (Xiao et al. 2023, as
    "SmoothQuant").
    """

    low: float
    high: float
    smoothing: Array

    @property
    def step(self) -> float:
        return (self.high - self.low) / 255

    def rounded(self, x: Array) -> Array:
        """What is left of an input (..., C) on this grid, multiplied by `smoothing` again."""
        byte = np.clip(np.rint((x / self.smoothing - self.low) / self.step), 0, 255)
        left: Array = ((byte * self.step + self.low) * self.smoothing).astype(np.float32)
        return left


Grids = Mapping[str, Grid]
"""By the name of the weight that the input meets, as `weights.View` tells it."""


def grid(low: float, high: float, smoothing: Array) -> Grid:
    """The grid that holds the smoothed numbers from low to high, and 0."""
    low, high = min(0.0, low), max(0.0, high)
    step = (high - low) / 255 or 1.0
    zero = round(-low / step)
    return Grid(-zero * step, (255 - zero) * step, smoothing)


def round_weight(weight: Array, smoothing: Array, largest: int) -> tuple[Array, Array]:
    """(O, I, ...) on a grid for each output channel: int8 up to +-largest, and steps (O, 1, ...)."""
    beside = (1,) * (weight.ndim - 2)
    factors = np.asarray(smoothing, np.float32).reshape(-1, *beside)
    rounded = np.empty(weight.shape, np.int8)
    steps = np.empty((len(weight), 1, *beside), np.float32)
    rows = max(1, CACHED // max(1, weight[:1].size))
    for first in range(0, len(weight), rows):
        some = slice(first, first + rows)
        smooth = weight[some].astype(np.float32) * factors
        ends = smooth.reshape(len(smooth), -1)
        extent = np.maximum(ends.max(axis=1), -ends.min(axis=1))
        steps[some] = (np.where(extent > 0, extent, 1) / largest).reshape(-1, 1, *beside)
        smooth /= steps[some]
        np.rint(smooth, out=smooth)
        rounded[some] = smooth
    return rounded, steps


def digest(grids: Grids) -> str:
    """Names them: equal for equal grids, and for no others."""
    found = sha256()
    for name, each in sorted(grids.items()):
        found.update(repr((name, each.low, each.high)).encode())
        found.update(np.asarray(each.smoothing, np.float32).tobytes())
    return found.hexdigest()


@dataclass(eq=False)
class InputStatistics:
    """What was seen of one input while a model worked: of those products that read it.

    weights: name -> stored weight, of each product. low, high: (C,), of each channel. rows: samples (n, C),
    a few of each evaluation.
    """

    weights: Mapping[str, Array]
    low: Array
    high: Array
    rows: list[Array] = field(default_factory=list)

    def see(self, low: Array, high: Array, rows: Array) -> None:
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self.rows.append(rows)


Sightings = dict[tuple[str, ...], InputStatistics]
"""By the names of the weights that read the input."""
