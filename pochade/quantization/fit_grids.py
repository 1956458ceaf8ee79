"""Fits 8-bit grids to statistics of inputs, with the error of each grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pochade.int8 import ALL_BITS, Array, Grid, InputStatistics, Observations, grid, round_weight

SMOOTHING = 0.25
"""How much of the differences between channels is moved to the weights. 0.5 fits the calibration data better
but other prompts worse, unless there is much data; measured in docs/decisions/0025-int8.md."""

SENSITIVE = 0.1
"""Products with a larger relative error stay in the engine's precision."""

SAMPLES = 192
"""The number of input rows, and of outputs, on which an error is measured."""


@dataclass(frozen=True, eq=False)
class Quantized:
    """The grid of a product and its relative error on samples: the RMS of the outputs' error divided by the
    RMS of the outputs. The grid is not used if the error is above SENSITIVE."""

    grid: Grid
    error: float

    @property
    def used(self) -> bool:
        return self.error <= SENSITIVE


Table = Mapping[str, Quantized]
"""Name of the product's weight -> grid and error."""


def fit(observations: Observations, smoothing: float = SMOOTHING) -> dict[str, Quantized]:
    """Fit a grid to each input, and measure its error in each product that reads it."""
    table = {}
    for observed in observations.values():
        found = _grid(observed, smoothing)
        rows = _spread(np.concatenate(observed.rows), SAMPLES).astype(np.float32)
        for name, weight in observed.weights.items():
            table[name] = Quantized(found, error(rows, weight, found))
    return table


def _grid(observed: InputStatistics, smoothing: float) -> Grid:
    extent = np.maximum(np.abs(observed.low), np.abs(observed.high))
    of_weights = np.max([_extents(weight) for weight in observed.weights.values()], axis=0)
    smooth = _smoothing(extent, of_weights, smoothing)
    return grid(float((observed.low / smooth).min()), float((observed.high / smooth).max()), smooth)


def _smoothing(extent: Array, of_weights: Array, share: float) -> Array:
    """The factors by which channels are divided, around 1; it is 1 for a channel that is always 0."""
    if share == 0:
        return np.ones_like(extent, np.float32)
    alive = (extent > 0) & (of_weights > 0)
    logs = np.zeros(len(extent))
    logs[alive] = share * np.log(extent[alive]) - (1 - share) * np.log(of_weights[alive])
    logs[alive] -= logs[alive].mean() if alive.any() else 0
    smooth: Array = np.exp(logs).astype(np.float32)
    return smooth


def _extents(weight: Array) -> Array:
    """(O, I, ...) -> (I,), the largest magnitude of each input channel."""
    axes = (0, *range(2, weight.ndim))
    found: Array = np.maximum(weight.max(axis=axes), -weight.min(axis=axes)).astype(np.float32)
    return found


def error(rows: Array, weight: Array, grid: Grid) -> float:
    """Measure the relative error of a product on rows (n, I) of its input. Each position of a kernel counts
    as a product of its own, since their errors are nearly independent."""
    some = _spread(weight, SAMPLES)
    rounded, steps = round_weight(some, grid.smoothing, ALL_BITS)
    inexact = rounded * (steps / grid.smoothing.reshape(1, -1, *(1,) * (weight.ndim - 2)))
    exact, off = _matrix(some.astype(np.float32)), _matrix(inexact)
    outputs = rows @ exact
    wrong = grid.rounded(rows) @ off - outputs
    power = float(np.square(outputs).mean())
    return float(np.sqrt(np.square(wrong).mean() / power)) if power > 0 else 0.0


def _matrix(weight: Array) -> Array:
    """(O, I, ...) -> (I, O * places)."""
    matrix: Array = np.moveaxis(weight, 1, 0).reshape(weight.shape[1], -1)
    return matrix


def _spread(array: Array, count: int) -> Array:
    """At most so many rows, evenly spaced."""
    if len(array) <= count:
        return array
    some: Array = array[np.linspace(0, len(array) - 1, count).astype(int)]
    return some


def worst(table: Table, count: int) -> Sequence[tuple[str, Quantized]]:
    """Return the products with the largest errors, in descending order."""
    return sorted(table.items(), key=lambda each: -each[1].error)[:count]
