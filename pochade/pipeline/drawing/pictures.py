"""Between PIL's pictures and arrays in -1..1."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pochade.errors import InvalidRequest
from pochade.images.opening import on_white

if TYPE_CHECKING:
    from PIL import Image

Floats = NDArray[np.float32]


def to_images(pictures: Floats) -> "list[Image.Image]":
    """(B, 3, H, W), about -1..1 -> RGB pictures.

    Raises InvalidRequest if the numbers are not finite: the model, in this precision, has overflowed.
    """
    from PIL import Image

    if not np.isfinite(pictures).all():
        raise InvalidRequest("the model gave numbers that are not finite; try --precision f32")
    bytes_ = np.rint((pictures.clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    return [Image.fromarray(picture) for picture in bytes_.transpose(0, 2, 3, 1)]


def from_image(image: "Image.Image") -> Floats:
    """A picture of any mode -> (3, H, W) in -1..1. What is transparent counts as white."""
    rgb = np.asarray(on_white(image), np.float32)
    return np.ascontiguousarray((rgb / 127.5 - 1).transpose(2, 0, 1))


def rough_images(latent: Floats) -> "list[Image.Image]":
    """A latent (B, C, h, w) as it is, three of its channels as colours, where nothing may be decoded.

    Shapes can be made out; the colours mean nothing.
    """
    shown = np.asarray(latent)[:, [0, 1, 2]]
    return to_images((shown / (np.abs(shown).max() + np.float32(1e-6))).astype(np.float32))
