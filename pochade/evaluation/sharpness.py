"""How crisp a picture is, how even its plain areas are, and how white its white margin is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

EDGE_SHARE = 0.05
"""The share of a picture's steepest pixels that count as edges."""

TILES = 16
"""Tiles along each side. A tile without an edge is a plain area."""

PLAIN = 12.0
"""The largest difference between neighbours in a plain tile, of 255."""

PAPER = 250.0
"""Tiles with a lighter mean are background, and do not count as plain areas of an object."""

WHITE = 253
"""The darkest channel of a white pixel."""

MARGIN = 4 / 128
"""Width of the margin that is white in framed pictures, as a share of the side."""


@dataclass(frozen=True)
class Sharpness:
    """edges: mean difference between neighbouring pixels at edges, of 255. unevenness: mean standard
    deviation within plain tiles, of 255; nan if there are none. white: share of the margin that is white."""

    edges: float
    unevenness: float
    white: float


def sharpness(image: Image.Image) -> Sharpness:
    """Measure one picture, at its own size."""
    pixels = np.asarray(image.convert("RGB"))
    grey = pixels.mean(axis=2)
    across = np.hypot(np.diff(grey, axis=1)[:-1], np.diff(grey, axis=0)[:, :-1])
    steepest = np.sort(across.ravel())[-round(EDGE_SHARE * across.size) :]
    return Sharpness(float(steepest.mean()), _unevenness(grey, across), _white(pixels))


def ratios(drawn: Sequence[Sharpness], real: Sequence[Sharpness]) -> tuple[float, float]:
    """Return edges and unevenness of drawn pictures as ratios to those of real ones."""
    edges = [np.mean([each.edges for each in images]) for images in (drawn, real)]
    unevenness = [np.nanmean([each.unevenness for each in images]) for images in (drawn, real)]
    return float(edges[0] / edges[1]), float(unevenness[0] / unevenness[1])


def _unevenness(grey: NDArray[np.float64], across: NDArray[np.float64]) -> float:
    edge = min(grey.shape) // TILES
    found = []
    for top in range(0, grey.shape[0] - edge + 1, edge):
        for left in range(0, grey.shape[1] - edge + 1, edge):
            tile = grey[top : top + edge, left : left + edge]
            plain = across[top : top + edge - 1, left : left + edge - 1].max() < PLAIN
            if plain and tile.mean() < PAPER:
                found.append(tile.std())
    return float(np.mean(found)) if found else float("nan")


def _white(pixels: NDArray[np.uint8]) -> float:
    width = max(1, round(MARGIN * min(pixels.shape[:2])))
    inner = np.zeros(pixels.shape[:2], bool)
    inner[width:-width, width:-width] = True
    return float((pixels[~inner] >= WHITE).all(axis=1).mean())
