"""Finds objects on a plain background without learning: areas that differ from the border, and their
connected components."""

import numpy as np
from numpy.typing import NDArray

from pochade.training.corpus.colours import oklch

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

BORDER_SHARE = 1 / 32
"""Width of the border as a share of the side; its commonest colour is taken as the background's."""

VISIBLE = 0.08
"""Distance in OKLab from which a pixel is foreground."""

COMPONENT_SHARE = 0.3
"""Share of the largest component's area below which a component is part of an object, not one of its own."""


def background(picture: Pixels) -> Pixels:
    """The median colour of the border: (H, W, 3) -> (3,)."""
    width = max(1, round(BORDER_SHARE * min(picture.shape[:2])))
    inner = np.zeros(picture.shape[:2], bool)
    inner[width:-width, width:-width] = True
    colour: Pixels = np.median(picture[~inner], axis=0).astype(np.uint8)
    return colour


def foreground(picture: Pixels) -> Mask:
    """(H, W, 3) -> (H, W), true where the colour differs visibly from the background's."""
    here = oklab(picture.reshape(-1, 3))
    there = oklab(background(picture)[None])
    mask: Mask = (np.linalg.norm(here - there, axis=1) > VISIBLE).reshape(picture.shape[:2])
    return mask


def oklab(rgb: Pixels) -> NDArray[np.float64]:
    """sRGB colours (N, 3) -> (N, 3): lightness and two opponent axes, where distances look alike."""
    lightness, chroma, hue = oklch(rgb)
    turns = np.radians(hue)
    return np.stack([lightness, chroma * np.cos(turns), chroma * np.sin(turns)], axis=1)


def components(mask: Mask) -> NDArray[np.int64]:
    """The areas of the connected components (8 neighbours), the largest first.

    Each pixel carries a number and takes the largest of its neighbourhood until nothing changes.
    """
    height, width = mask.shape
    numbers = np.zeros((height + 2, width + 2), np.int64)
    inside = numbers[1:-1, 1:-1]
    inside[mask] = np.arange(1, mask.sum() + 1)
    while True:
        rows = np.maximum(np.maximum(numbers[:-2], numbers[1:-1]), numbers[2:])
        best = np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:]) * mask
        if (best == inside).all():
            break
        inside[:] = best
    areas: NDArray[np.int64] = np.sort(np.unique(inside[mask], return_counts=True)[1])[::-1]
    return areas


def count(picture: Pixels) -> int:
    """The number of objects of about the same size."""
    areas = components(foreground(picture))
    return int((areas >= COMPONENT_SHARE * areas[0]).sum()) if len(areas) else 0


def cut_out(picture: Pixels, mask: Mask, margin: float = 0.05) -> Pixels | None:
    """The masked area, centred in a square of the background's colour; None if the mask is empty.

    margin: on each side, as a share of the square's side.
    """
    if not mask.any():
        return None
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    part = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = round(max(part.shape[:2]) / (1 - 2 * margin))
    square = np.empty((side, side, 3), np.uint8)
    square[:] = background(picture)
    top, left = (side - part.shape[0]) // 2, (side - part.shape[1]) // 2
    square[top : top + part.shape[0], left : left + part.shape[1]] = part
    return square
