"""Recolour objects, so that there are training pictures of "a blue apple"."""

import numpy as np
from numpy.typing import NDArray

from pochade.training.corpus.colours import TO_LMS, TO_OKLAB, dominant_colour, oklch

Pixels = NDArray[np.uint8]

TINTS = {
    "red": (0.58, 0.21, 26.0),
    "orange": (0.74, 0.17, 56.0),
    "yellow": (0.88, 0.17, 96.0),
    "green": (0.66, 0.17, 143.0),
    "teal": (0.70, 0.11, 193.0),
    "blue": (0.57, 0.17, 257.0),
    "purple": (0.55, 0.19, 308.0),
    "pink": (0.76, 0.14, 355.0),
}
"""Lightness, chroma and hue (degrees) in OKLCh of a typical colour of each name."""

REACH = 50.0
"""The range of hues around the dominant one that changes, degrees: the leaf on a red apple stays green."""

SURE_SHARE = 0.45
"""The minimum share of the opaque area with the new colour for a caption to mention it."""


def recoloured(picture: Pixels, colour: str) -> Pixels | None:
    """Return the picture with its dominant hue shifted to `colour`; None if that fails.

    picture: (H, W, 4), straight alpha. colour: one of TINTS. Shades keep their distance from the mean.
    """
    opaque = picture[..., 3] >= 16
    lightness, chroma, hue = oklch(picture[opaque][:, :3])
    coloured = chroma > 0.05
    if coloured.mean() < SURE_SHARE:
        return None
    weight = np.where(coloured, chroma, 0)
    turns = np.radians(hue)
    own = np.degrees(np.arctan2((weight * np.sin(turns)).sum(), (weight * np.cos(turns)).sum()))
    distance = (hue - own + 180) % 360 - 180
    moved = coloured & (np.abs(distance) < REACH)
    if moved.mean() < SURE_SHARE:
        return None
    to_lightness, to_chroma, to_hue = TINTS[colour]
    new_lightness = lightness + 0.75 * (to_lightness - lightness[moved].mean())
    new_chroma = chroma * to_chroma / chroma[moved].mean()
    result = picture.copy()
    pixels = result[opaque]
    pixels[moved, :3] = from_oklch(new_lightness[moved], new_chroma[moved], to_hue + 0.3 * distance[moved])
    result[opaque] = pixels
    name, share = dominant_colour(result)
    return result if name == colour and share >= SURE_SHARE else None


def from_oklch(
    lightness: NDArray[np.float64], chroma: NDArray[np.float64], hue: NDArray[np.float64]
) -> Pixels:
    """Return sRGB colours (N, 3), clipped to the gamut; the inverse of `oklch`."""
    turns = np.radians(hue)
    lab = np.stack([lightness.clip(0, 1), chroma * np.cos(turns), chroma * np.sin(turns)])
    linear = np.linalg.solve(TO_LMS, np.linalg.solve(TO_OKLAB, lab) ** 3).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    pixels: Pixels = np.rint(255 * encoded.T).astype(np.uint8)
    return pixels
