"""Resizes pictures by A1111's resize modes, and pads them."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from PIL import Image

from pochade.errors import InvalidRequest

LANCZOS = Image.Resampling.LANCZOS


def fit(image: Image.Image, width: int, height: int, mode: str = "crop") -> Image.Image:
    """Resize a picture, px. mode: a name of MODES. Raises InvalidRequest for an unknown mode."""
    if mode not in MODES:
        raise InvalidRequest(f"resize mode '{mode}' is unknown; one of: {', '.join(MODES)}")
    if image.size == (width, height):
        return image
    return MODES[mode](image, width, height)


def stretched(image: Image.Image, width: int, height: int) -> Image.Image:
    """Stretch the whole picture to another size."""
    return image.resize((width, height), LANCZOS)


def cropped(image: Image.Image, width: int, height: int) -> Image.Image:
    """Crop the picture to the aspect ratio around its centre, and resize it."""
    scale = min(image.width / width, image.height / height)
    left, top = (image.width - width * scale) / 2, (image.height - height * scale) / 2
    return image.resize((width, height), LANCZOS, (left, top, left + width * scale, top + height * scale))


def padded(image: Image.Image, width: int, height: int) -> Image.Image:
    """Fit the whole picture into the size, and fill the rest by repeating its outermost rows or columns."""
    scale = min(width / image.width, height / image.height)
    inner = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), LANCZOS)
    left, top = (width - inner.width) // 2, (height - inner.height) // 2
    return surrounded(inner, left, top, width - inner.width - left, height - inner.height - top)


def surrounded(image: Image.Image, left: int, top: int, right: int, bottom: int) -> Image.Image:
    """Pad a picture by repeating its edge pixels."""
    pixels = np.asarray(image)
    margins = ((top, bottom), (left, right)) + ((0, 0),) * (pixels.ndim - 2)
    return Image.fromarray(np.pad(pixels, margins, mode="edge"))


def filled_up(image: Image.Image, width: int, height: int) -> Image.Image:
    """Pad a picture at the right and at the bottom to this size, px, as `surrounded` does."""
    return surrounded(image, 0, 0, width - image.width, height - image.height)


OVERLAP = 8
"""The width of the band of the old picture, px, that is redrawn along an extended edge."""


def widened(
    image: Image.Image, left: int, top: int, right: int, bottom: int
) -> tuple[Image.Image, Image.Image]:
    """Add margins of these widths, px, for outpainting; returns the picture and the mask of the margins.

    Margins repeat the picture's edge pixels.
    """
    larger = surrounded(image, left, top, right, bottom)
    mask = Image.new("L", larger.size, 255)
    kept = (
        left + OVERLAP * (left > 0),
        top + OVERLAP * (top > 0),
        larger.width - right - OVERLAP * (right > 0),
        larger.height - bottom - OVERLAP * (bottom > 0),
    )
    if kept[0] < kept[2] and kept[1] < kept[3]:
        mask.paste(0, kept)
    return larger, mask


MODES: Mapping[str, Callable[[Image.Image, int, int], Image.Image]] = MappingProxyType(
    {"stretch": stretched, "crop": cropped, "fill": padded}
)
"""A1111's "Just resize", "Crop and resize", "Resize and fill"."""
