"""8-bit quantization: the grids of inputs and weights.

A grid maps the 256 values of a byte to evenly spaced numbers that include 0: `low + step * byte`. The input
of a product is rounded to one grid, and each output channel's weights to another without an offset. The
product is then computed in bytes, and one multiplication per channel scales the result.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

ALL_BITS = 127
"""The largest 8-bit weight. Inputs are unsigned bytes, weights are signed and symmetric."""

SAFE_BITS = 63
"""The largest weight on processors without 8-bit instructions: they add two products of an unsigned and a
signed byte in 16 bits, which 2 * 255 * 63 does not overflow."""


CACHED = 2**18
"""Number of values rounded at a time: they fit into a core's cache in f32."""


@dataclass(frozen=True, eq=False)
class Grid:
    """The grid of a product's input, after the input is divided by `smoothing`.

    low, high: the numbers that the bytes 0 and 255 represent. smoothing: (C,), one factor for each input
    channel; the weights are multiplied by it. It reduces the loss of precision that a few large channels
    cause in all others (Xiao et al. 2023, "SmoothQuant").
    """

    low: float
    high: float
    smoothing: Array

    @property
    def step(self) -> float:
        return (self.high - self.low) / 255

    def rounded(self, x: Array) -> Array:
        """Round an input (..., C) to this grid, and multiply it by `smoothing` again."""
        byte = np.clip(np.rint((x / self.smoothing - self.low) / self.step), 0, 255)
        left: Array = ((byte * self.step + self.low) * self.smoothing).astype(np.float32)
        return left


Grids = Mapping[str, Grid]
"""Name of the weight that the input is multiplied by (as in `weights.View`) -> grid."""


def grid(low: float, high: float, smoothing: Array) -> Grid:
    """Return the grid that covers the smoothed numbers from low to high, and 0."""
    low, high = min(0.0, low), max(0.0, high)
    step = (high - low) / 255 or 1.0
    zero = round(-low / step)
    return Grid(-zero * step, (255 - zero) * step, smoothing)


def round_weight(weight: Array, smoothing: Array, largest: int) -> tuple[Array, Array]:
    """Round (O, I, ...) with one grid per output channel: int8 up to +-largest, and steps (O, 1, ...)."""
    ones = (1,) * (weight.ndim - 2)
    factors = np.asarray(smoothing, np.float32).reshape(-1, *ones)
    rounded = np.empty(weight.shape, np.int8)
    steps = np.empty((len(weight), 1, *ones), np.float32)
    rows = max(1, CACHED // max(1, weight[:1].size))
    for first in range(0, len(weight), rows):
        some = slice(first, first + rows)
        smooth = weight[some].astype(np.float32) * factors
        ends = smooth.reshape(len(smooth), -1)
        extent = np.maximum(ends.max(axis=1), -ends.min(axis=1))
        steps[some] = (np.where(extent > 0, extent, 1) / largest).reshape(-1, 1, *ones)
        smooth /= steps[some]
        np.rint(smooth, out=smooth)
        rounded[some] = smooth
    return rounded, steps


def digest(grids: Grids) -> str:
    """Return a hash that identifies the grids."""
    found = sha256()
    for name, each in sorted(grids.items()):
        found.update(repr((name, each.low, each.high)).encode())
        found.update(np.asarray(each.smoothing, np.float32).tobytes())
    return found.hexdigest()


@dataclass(eq=False)
class InputStatistics:
    """Statistics of one input of products, collected while a model runs.

    weights: name -> stored weight of each product that reads the input. low, high: (C,), the extremes of each
    channel. rows: samples (n, C), a few from each evaluation.
    """

    weights: Mapping[str, Array]
    low: Array
    high: Array
    rows: list[Array] = field(default_factory=list)

    def see(self, low: Array, high: Array, rows: Array) -> None:
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self.rows.append(rows)


Observations = dict[tuple[str, ...], InputStatistics]
"""Names of the weights that read an input -> its statistics."""
