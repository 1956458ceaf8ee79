"""Large pictures, encoded and decoded in overlapping parts: the memory is that of one part."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pochade.models.seamless import COLUMNS, ROWS, seamless

Floats = NDArray[np.float32]

WHOLE = 128 * 128
"""Latent pixels: up to here, 1024 x 1024 px in the usual models, nothing is divided."""

TILE, OVERLAP = 96, 24
"""Latent pixels: the side of a part, and how far neighbours reach into one another at the least."""


def in_tiles(
    function: Callable[[Floats], Floats],
    x: Floats,
    *,
    given: int,
    made: int,
    tile: int,
    overlap: int,
    tiling: bool = False,
) -> Floats:
    """`function` on overlapping parts of x, put together with soft seams.

    given, made: pixels along one latent pixel, in x and in the result: 1 and 8 to decode, 8 and 1 to encode.
    function: (1, C, h * given, w * given) -> (1, D, h * made, w * made); all parts have one size, so that it
    is compiled once. tile, overlap: in latent pixels. x: (1, C, H * given, W * given). tiling: the picture
    goes round, so parts lie across its edges too; function is what `form_of` gives.
    """
    rows, columns = x.shape[2] // given, x.shape[3] // given
    high, wide = min(tile, rows), min(tile, columns)
    weight: Floats = np.outer(ramp(high * made, overlap * made), ramp(wide * made, overlap * made))
    total: list[NDArray[Any]] = []
    weights: NDArray[Any] = np.zeros((rows * made, columns * made), np.float32)
    for top in starts(rows, high, overlap, tiling=tiling):
        for left in starts(columns, wide, overlap, tiling=tiling):

            def place(unit: int, top: int = top, left: int = left) -> tuple[Any, ...]:
                return np.ix_(_places(top, high, rows, unit), _places(left, wide, columns, unit))

            part = function(np.ascontiguousarray(x[:, :, *place(given)]))
            if not total:
                total.append(np.zeros((1, part.shape[1], *weights.shape), np.float32))
            total[0][:, :, *place(made)] += part * weight
            weights[place(made)] += weight
    whole: Floats = total[0] / weights
    return whole


def form_of(
    function: Callable[..., Any], rows: int, columns: int, *, tile: int, tiling: bool
) -> Callable[..., Any]:
    """The model function that is run on the parts of a picture of rows x columns latent pixels.

    tiling: the picture goes round. Along a side of one part so does the function; along a side of several
    they meet across the edge (`in_tiles`), and each ends in zeros there, like any part.
    """
    if not tiling:
        return function
    sides = ((ROWS, rows), (COLUMNS, columns))
    return seamless(function, tuple(axis for axis, length in sides if length <= tile))


def made_small(x: Floats, *, given: int, tile: int) -> Floats:
    """Every n-th pixel of x, so many that the result is as large as a part. given, tile: as in `in_tiles`."""
    sides = [min(side, tile * given) for side in x.shape[2:]]
    rows, columns = (
        ((np.arange(small) + 0.5) * side / small).astype(np.int64)
        for small, side in zip(sides, x.shape[2:], strict=True)
    )
    return np.ascontiguousarray(x[:, :, rows][:, :, :, columns])


def _places(start: int, length: int, limit: int, unit: int) -> NDArray[np.intp]:
    """The pixels of a part along one side, `unit` for each latent pixel; beyond the end it goes round."""
    return np.arange(start * unit, (start + length) * unit) % (limit * unit)


def starts(length: int, tile: int, overlap: int, *, tiling: bool = False) -> list[int]:
    """Where parts begin, evenly. The last one ends at `length`, or goes on at 0 if the picture goes round."""
    if length <= tile:
        return [0]
    if tiling:
        count = -(-length // (tile - overlap))
        return [round(number * length / count) for number in range(count)]
    count = 1 + -(-(length - tile) // (tile - overlap))
    return [round(start) for start in np.linspace(0, length - tile, count)]


def ramp(length: int, overlap: int) -> Floats:
    """How much each pixel of a part counts: little at both ends, 1 beyond the overlap; never 0."""
    distance = np.minimum(np.arange(length) + 1, length - np.arange(length))
    weights: Floats = np.minimum(1, distance / (overlap + 1)).astype(np.float32)
    return weights
