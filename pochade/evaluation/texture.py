"""How a picture is drawn, in numbers that do not say what it shows: its colours, and how they change.

Sets of pictures have their palettes, and flat areas, shading and outlines differ in how steep and how wide
their edges are. A small network that saw whole pictures would learn what they show instead.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

SIDE = 64
"""Pixels to which every picture is brought: finer edges tell how sharply a model draws rather than how."""

LEVELS = 12
"""Of each colour channel."""

PAPER = 250
"""Where all channels are at least this light there is only the sheet."""

SCALES = (1, 2, 4)
STEEPNESS = (0, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)
BENDING = (0, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 511)
"""Bounds of the histograms of first and second differences, of 255."""

COUNT = LEVELS**3 + len(SCALES) * (2 * (len(STEEPNESS) - 1) + len(BENDING) - 1)


def texture(image: Image.Image) -> Floats:
    """(COUNT,): roots of shares, so that what is rare counts too (Hellinger's distance)."""
    picture = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    pixels = np.asarray(picture)
    shares = np.concatenate([palette(pixels), *(edges(pixels, scale) for scale in SCALES)])
    roots: Floats = np.sqrt(shares, dtype=np.float32)
    return roots


def palette(pixels: Pixels) -> NDArray[np.float64]:
    """Shares of the colours of what is drawn, (LEVELS^3,); a pixel is divided among the eight nearest."""
    drawn = pixels[(pixels < PAPER).any(axis=2)].astype(np.float64) * ((LEVELS - 1) / 255)
    low = np.minimum(drawn.astype(np.int64), LEVELS - 2)
    high_share = drawn - low
    found = np.zeros(LEVELS**3)
    for corner in np.ndindex(2, 2, 2):
        weights = np.where(corner, high_share, 1 - high_share).prod(axis=1)
        bins = (low + corner) @ (LEVELS**2, LEVELS, 1)
        found += np.bincount(bins, weights, LEVELS**3)
    return found / max(1, len(drawn))


def edges(pixels: Pixels, scale: int) -> NDArray[np.float64]:
    """Shares of how steeply and how suddenly neighbours change, in blocks of `scale` pixels."""
    side = SIDE // scale
    blocks = pixels.reshape(side, scale, side, scale, 3).mean(axis=(1, 3))
    across = [np.abs(np.diff(blocks, axis=axis)).max(axis=2) for axis in (0, 1)]
    bent = np.abs(np.diff(blocks, n=2, axis=0)).max(axis=2)
    return np.concatenate([*(_histogram(each, STEEPNESS) for each in across), _histogram(bent, BENDING)])


def _histogram(values: NDArray[np.float64], bounds: tuple[float, ...]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.histogram(values, bounds)[0] / values.size
    return shares
