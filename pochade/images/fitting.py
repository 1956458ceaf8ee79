"""A picture brought to the size that is drawn."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from PIL import Image

from pochade.errors import InvalidRequest

LANCZOS = Image.Resampling.LANCZOS
MUCH_LARGER = 2.25
"""Of pixels: up to here, models of this family draw larger than they were trained to."""


def drawn_size(own: tuple[int, int], source: tuple[int, int] | None, factor: int) -> tuple[int, int]:
    """Width and height, px, where a request names neither: the model's own, in the shape of a source picture.

    A source of about the model's size keeps its own. own: the model's. factor: pixels for a latent one.
    """
    if source is None:
        return own
    pixels, room = source[0] * source[1], own[0] * own[1]
    scale = 1.0 if room / 4 <= pixels <= MUCH_LARGER * room else (room / pixels) ** 0.5
    width, height = (max(factor, round(scale * side / factor) * factor) for side in source)
    return width, height


def fit(image: Image.Image, width: int, height: int, mode: str = "crop") -> Image.Image:
    """The picture in another size, px. mode: a name of MODES. Raises InvalidRequest for another."""
    if mode not in MODES:
        raise InvalidRequest(f"resize mode '{mode}' is unknown; one of: {', '.join(MODES)}")
    if image.size == (width, height):
        return image
    return MODES[mode](image, width, height)


def stretched(image: Image.Image, width: int, height: int) -> Image.Image:
    """All of it, in another shape."""
    return image.resize((width, height), LANCZOS)


def cropped(image: Image.Image, width: int, height: int) -> Image.Image:
    """The middle of it, as much as has the shape that is asked for."""
    scale = min(image.width / width, image.height / height)
    left, top = (image.width - width * scale) / 2, (image.height - height * scale) / 2
    return image.resize((width, height), LANCZOS, (left, top, left + width * scale, top + height * scale))


def padded(image: Image.Image, width: int, height: int) -> Image.Image:
    """All of it in its own shape; what is left beside it shows its outermost rows or columns, drawn out."""
    scale = min(width / image.width, height / image.height)
    inner = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), LANCZOS)
    left, top = (width - inner.width) // 2, (height - inner.height) // 2
    return surrounded(inner, left, top, width - inner.width - left, height - inner.height - top)


def surrounded(image: Image.Image, left: int, top: int, right: int, bottom: int) -> Image.Image:
    """Wider and higher by these many pixels, which repeat the nearest one of the picture."""
    pixels = np.asarray(image)
    margins = ((top, bottom), (left, right)) + ((0, 0),) * (pixels.ndim - 2)
    return Image.fromarray(np.pad(pixels, margins, mode="edge"))


OVERLAP = 8
"""Pixels of the old picture, along an edge that is drawn further, that are drawn anew with it."""


def widened(
    image: Image.Image, left: int, top: int, right: int, bottom: int
) -> tuple[Image.Image, Image.Image]:
    """A picture with margins of these widths, px, and the mask that has them drawn anew.

    At first a margin repeats the picture's edge.
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
