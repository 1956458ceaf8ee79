"""Encodes and decodes large pictures in overlapping tiles, which limits the memory to that of one tile."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pochade.models.seamless import COLUMNS, ROWS, seamless

Floats = NDArray[np.float32]

WHOLE = 128 * 128
"""The number of latent pixels up to which no tiles are used; 1024 x 1024 px in most models."""

TILE, OVERLAP = 96, 24
"""The side of a tile and the minimum overlap of tiles, in latent pixels."""


def run_tiled(
    function: Callable[[Floats], Floats],
    x: Floats,
    *,
    in_scale: int,
    out_scale: int,
    tile: int,
    overlap: int,
    tiling: bool = False,
) -> Floats:
    """Run `function` on overlapping tiles of x and blend the results.

    in_scale, out_scale: pixels along one latent pixel, in x and in the result: 1 and 8 to decode, 8 and 1 to
    encode.
    function: (1, C, h * given, w * given) -> (1, D, h * made, w * made); all parts have one size, so that it
    is compiled once. tile, overlap: in latent pixels. x: (1, C, H * given, W * given). tiling: the picture
    goes round, so parts lie across its edges too; function is what `tile_function` gives.
    """
    rows, columns = x.shape[2] // in_scale, x.shape[3] // in_scale
    high, wide = min(tile, rows), min(tile, columns)
    weight: Floats = np.outer(
        ramp(high * out_scale, overlap * out_scale), ramp(wide * out_scale, overlap * out_scale)
    )
    total: list[NDArray[Any]] = []
    weights: NDArray[Any] = np.zeros((rows * out_scale, columns * out_scale), np.float32)
    for top in starts(rows, high, overlap, tiling=tiling):
        for left in starts(columns, wide, overlap, tiling=tiling):

            def place(unit: int, top: int = top, left: int = left) -> tuple[Any, ...]:
                return np.ix_(_places(top, high, rows, unit), _places(left, wide, columns, unit))

            part = function(np.ascontiguousarray(x[:, :, *place(in_scale)]))
            if not total:
                total.append(np.zeros((1, part.shape[1], *weights.shape), np.float32))
            total[0][:, :, *place(out_scale)] += part * weight
            weights[place(out_scale)] += weight
    whole: Floats = total[0] / weights
    return whole


def tile_function(
    function: Callable[..., Any], rows: int, columns: int, *, tile: int, tiling: bool
) -> Callable[..., Any]:
    """Return the model function for the tiles of a picture of rows x columns latent pixels.

    tiling: whether the picture wraps around. Along a side with one tile the function wraps too; along a side
    with several, tiles overlap across the edge (`run_tiled`), and each is padded with zeros like any tile.
    """
    if not tiling:
        return function
    sides = ((ROWS, rows), (COLUMNS, columns))
    return seamless(function, tuple(axis for axis, length in sides if length <= tile))


def downsampled(x: Floats, *, in_scale: int, tile: int) -> Floats:
    """Every n-th pixel of x, so many that the result is as large as a part. in_scale, tile: as in
    `run_tiled`."""
    sides = [min(side, tile * in_scale) for side in x.shape[2:]]
    rows, columns = (
        ((np.arange(small) + 0.5) * side / small).astype(np.int64)
        for small, side in zip(sides, x.shape[2:], strict=True)
    )
    return np.ascontiguousarray(x[:, :, rows][:, :, :, columns])


def _places(start: int, length: int, limit: int, unit: int) -> NDArray[np.intp]:
    """The pixels of a tile along one side, `unit` for each latent pixel; it wraps around at the end."""
    return np.arange(start * unit, (start + length) * unit) % (limit * unit)


def starts(length: int, tile: int, overlap: int, *, tiling: bool = False) -> list[int]:
    """Return evenly spaced start positions of tiles. The last tile ends at `length`, or wraps around with
    tiling."""
    if length <= tile:
        return [0]
    if tiling:
        count = -(-length // (tile - overlap))
        return [round(number * length / count) for number in range(count)]
    count = 1 + -(-(length - tile) // (tile - overlap))
    return [round(start) for start in np.linspace(0, length - tile, count)]


def ramp(length: int, overlap: int) -> Floats:
    """Return the blending weight of each pixel of a tile: small at both ends, 1 beyond the overlap, never
    0."""
    distance = np.minimum(np.arange(length) + 1, length - np.arange(length))
    weights: Floats = np.minimum(1, distance / (overlap + 1)).astype(np.float32)
    return weights
