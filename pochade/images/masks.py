"""Masks: which part of a picture is drawn anew, and how the new part is set into the old picture.

A mask is a gray picture, white where something new is wanted.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pochade.errors import InvalidRequest

Floats = NDArray[np.float32]

FAINT = 25
"""Of 255: below it the old picture is all that one sees."""

CELLS = (64, 32, 16, 8, 4, 2)
"""Sides in px of the cells whose averages fill a hole, the coarse ones first."""


class Box(NamedTuple):
    """A part of a picture, px: right and bottom are the first column and row beyond it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        return self.right - self.left, self.bottom - self.top


def gray(mask: Image.Image) -> Image.Image:
    """Any picture as a mask: its opacity if it is transparent anywhere, as in A1111, else its brightness."""
    if "A" in mask.getbands():
        alpha = mask.getchannel("A")
        if alpha.getextrema() != (255, 255):
            return alpha
    return mask.convert("L")


def blurred(mask: Image.Image, radius: float) -> Image.Image:
    """With soft edges. radius: the deviation of the Gaussian, px."""
    return mask.filter(ImageFilter.GaussianBlur(radius)) if radius > 0 else mask


def bounds(mask: Image.Image) -> Box:
    """The smallest box around all that is not black. Raises InvalidRequest if nothing is."""
    box = mask.getbbox()
    if box is None:
        raise InvalidRequest("the mask is black everywhere; paint white what is to be drawn anew")
    return Box(*box)


def region(mask: Image.Image, padding: int, width: int, height: int) -> Box:
    """Where to look closer: the masked part and `padding` px around it, in the shape width : height.

    It is widened rather than narrowed, and moved rather than cut at the picture's edge; it has another shape
    only where the picture itself is too small.
    """
    box = bounds(mask)
    wide, high = box.size[0] + 2 * padding, box.size[1] + 2 * padding
    if wide * height < high * width:
        wide = -(-high * width // height)
    else:
        high = -(-wide * height // width)
    left, right = _span((box.left + box.right) // 2, min(wide, mask.width), mask.width)
    top, bottom = _span((box.top + box.bottom) // 2, min(high, mask.height), mask.height)
    return Box(left, top, right, bottom)


def _span(middle: int, length: int, limit: int) -> tuple[int, int]:
    start = min(max(0, middle - length // 2), limit - length)
    return start, start + length


def composite(old: Image.Image, new: Image.Image, mask: Image.Image) -> Image.Image:
    """`new` where the mask is white, `old` where it is black, both of one size."""
    return Image.composite(new.convert(old.mode), old, mask)


def in_latent(mask: Image.Image, factor: int) -> Floats:
    """(1, h, w) of ones where any pixel that a latent one stands for is to be drawn anew, else zeros.

    The faint end of a soft edge does not count.
    """
    pixels = np.asarray(mask)
    height, width = pixels.shape
    brightest = pixels.reshape(height // factor, factor, width // factor, factor).max(axis=(1, 3))
    touched: Floats = (brightest[None] > FAINT).astype(np.float32)
    return touched


def surroundings(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The masked part filled with the colours around it, soft: RGB.

    The visible part is averaged over coarser and coarser cells; each pixel takes the finest average that saw
    anything near it (a pyramid as in Burt 1988, "Moment images, polynomial fit filters").
    """
    shown = 1 - np.asarray(mask, np.float32) / 255
    visible: NDArray[Any] = np.dstack([np.asarray(image.convert("RGB")) * shown[..., None], shown])
    mean = visible[..., :3].sum(axis=(0, 1)) / max(float(shown.sum()), 1e-6)
    filled: NDArray[Any] = np.broadcast_to(mean, visible[..., :3].shape)
    for cell in CELLS:
        averaged = _averaged(visible, cell)
        weight = averaged[..., 3:]
        sure = np.clip(4 * weight, 0, 1)
        filled = filled * (1 - sure) + averaged[..., :3] / np.maximum(weight, 1e-4) * sure
    merged = filled * (1 - shown[..., None]) + visible[..., :3]
    return Image.fromarray(merged.clip(0, 255).round().astype(np.uint8))


def _averaged(channels: NDArray[Any], cell: int) -> NDArray[Any]:
    """Each channel of (H, W, C) as means of square cells, px, with smooth steps between them."""
    height, width = channels.shape[:2]
    small, size = (max(1, width // cell), max(1, height // cell)), (width, height)
    planes = [Image.fromarray(np.ascontiguousarray(channels[..., c])) for c in range(channels.shape[2])]
    coarse = [plane.resize(small, Image.Resampling.BOX) for plane in planes]
    return np.dstack([np.asarray(plane.resize(size, Image.Resampling.BILINEAR)) for plane in coarse])
