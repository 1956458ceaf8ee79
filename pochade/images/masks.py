"""Masks for inpainting: gray pictures that are white where a picture is redrawn."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pochade.errors import InvalidRequest

Floats = NDArray[np.float32]

FAINT = 25
"""Mask values below this, of 255, are treated as 0 in the latent mask."""

CELLS = (64, 32, 16, 8, 4, 2)
"""Sides, px, of the cells whose averages fill the masked part, coarse ones first."""


class Box(NamedTuple):
    """A part of a picture, px; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        return self.right - self.left, self.bottom - self.top


def gray(mask: Image.Image) -> Image.Image:
    """Convert a picture to a mask: its opacity if it has any transparency, as in A1111, else its
    brightness."""
    if "A" in mask.getbands():
        alpha = mask.getchannel("A")
        if alpha.getextrema() != (255, 255):
            return alpha
    return mask.convert("L")


def blurred(mask: Image.Image, radius: float) -> Image.Image:
    """Blur a mask. radius: standard deviation of the Gaussian, px."""
    return mask.filter(ImageFilter.GaussianBlur(radius)) if radius > 0 else mask


def bounds(mask: Image.Image) -> Box:
    """Return the smallest box around everything that is not black. Raises InvalidRequest for a black mask."""
    box = mask.getbbox()
    if box is None:
        raise InvalidRequest("the mask is black everywhere; paint white what is to be redrawn")
    return Box(*box)


def region(mask: Image.Image, padding: int, width: int, height: int) -> Box:
    """Return the box of the masked part plus `padding` px, with the aspect ratio width : height.

    The box is extended rather than reduced, and shifted rather than cropped at the picture's edge; it has
    another aspect ratio only if the picture is too small.
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
    """Composite two pictures of the same size: `new` where the mask is white, `old` where it is black."""
    return Image.composite(new.convert(old.mode), old, mask)


def in_latent(mask: Image.Image, factor: int) -> Floats:
    """Return (1, h, w) with ones for latent pixels of which any picture pixel is redrawn, else zeros.

    The faint end of a soft edge does not count.
    """
    pixels = np.asarray(mask)
    height, width = pixels.shape
    brightest = pixels.reshape(height // factor, factor, width // factor, factor).max(axis=(1, 3))
    touched: Floats = (brightest[None] > FAINT).astype(np.float32)
    return touched


def surroundings(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Fill the masked part smoothly with the surrounding colours: RGB.

    The visible part is averaged over increasingly coarse cells; each pixel takes the finest average that
    includes visible pixels (a pyramid as in Burt 1988, "Moment images, polynomial fit filters").
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
    """Average each channel of (H, W, C) over square cells, px, with smooth transitions."""
    height, width = channels.shape[:2]
    small, size = (max(1, width // cell), max(1, height // cell)), (width, height)
    planes = [Image.fromarray(np.ascontiguousarray(channels[..., c])) for c in range(channels.shape[2])]
    coarse = [plane.resize(small, Image.Resampling.BOX) for plane in planes]
    return np.dstack([np.asarray(plane.resize(size, Image.Resampling.BILINEAR)) for plane in coarse])
