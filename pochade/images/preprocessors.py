"""ControlNet preprocessors without models: edges, lines, and a copy without detail."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pochade.errors import InvalidRequest
from pochade.images.decode import on_white

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

SIGMA, LOW, HIGH = 0.8, 50.0, 100.0
"""Defaults of canny: the Gaussian's standard deviation, px, and the thresholds, in grey levels times the
weight of a Sobel kernel. They find about as many edges as 100 and 200, the defaults of other tools, without a
Gaussian."""

OTHER_TOOLS_LOW, OTHER_TOOLS_HIGH = 100.0, 200.0
"""The default thresholds of other tools."""

SCRIBBLE_STROKE, SCRIBBLE_AROUND = 0.5, 5.0
"""Standard deviations, px, of the two Gaussians that are subtracted to find strokes."""

SCRIBBLE_DARKER = 16.0
"""How much darker a stroke must be than its surroundings, of 255 levels."""

TILE_REDUCTION = 8
"""The factor by which `tile` downsamples each side."""


def preprocessed(image: Image.Image, name: str, thresholds: tuple[float, float] | None = None) -> Image.Image:
    """Apply a preprocessor; the size is kept. name: as in `find_preprocessor`.

    Transparency counts as white. thresholds: low and high of `canny`, on the scale of other tools, whose
    defaults are 100 and 200; other preprocessors have none.
    """
    known, image = find_preprocessor(name), on_white(image)
    if known == "canny" and thresholds is not None:
        low, high = sorted(thresholds)
        return canny(image, LOW * low / OTHER_TOOLS_LOW, HIGH * high / OTHER_TOOLS_HIGH)
    return PREPROCESSORS[known](image)


def find_preprocessor(name: str) -> str:
    """Return the preprocessor's canonical name for a name in any case. Raises InvalidRequest, listing all."""
    for known in PREPROCESSORS:
        if known == name.strip().lower():
            return known
    raise InvalidRequest(f"preprocessor '{name}' is unknown; one of: {', '.join(PREPROCESSORS)}")


def canny(image: Image.Image, low: float = LOW, high: float = HIGH, sigma: float = SIGMA) -> Image.Image:
    """Thin white edges on black (Canny 1986).

    Gaussian, Sobel, non-maximum suppression, and hysteresis with the thresholds `high` and `low`. sigma:
    standard deviation of the Gaussian, px; 0 omits it.
    """
    gray = blurred(luminance(image), sigma)
    across, down = sobel(gray)
    strength = np.hypot(across, down)
    ridge = strength * thin(strength, across, down)
    return from_mask(connected(ridge > low, ridge > high))


def invert(image: Image.Image) -> Image.Image:
    """Invert dark lines on paper to the white lines on black that line-art ControlNets were trained with."""
    return ImageOps.invert(image)


def scribble(image: Image.Image) -> Image.Image:
    """White strokes on black where every colour channel is darker than the surroundings.

    A thresholded difference of Gaussians (Winnemöller et al. 2012, without its soft threshold).
    """
    planes = np.moveaxis(np.asarray(image, np.float64), 2, 0)
    darker = [blurred(plane, SCRIBBLE_AROUND) - blurred(plane, SCRIBBLE_STROKE) for plane in planes]
    return from_mask(np.min(darker, axis=0) > SCRIBBLE_DARKER)


def tile(image: Image.Image) -> Image.Image:
    """A copy without fine detail, which the tile ControlNet restores."""
    small = (max(1, image.width // TILE_REDUCTION), max(1, image.height // TILE_REDUCTION))
    return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)


def none(image: Image.Image) -> Image.Image:
    """The unchanged picture, for one that another program has preprocessed."""
    return image


PREPROCESSORS: Mapping[str, Callable[[Image.Image], Image.Image]] = MappingProxyType(
    {"none": none, "canny": canny, "invert": invert, "scribble": scribble, "tile": tile}
)
"""Name for users -> preprocessor."""


# --- the parts of canny -----------------------------------------------------------------------------------


def luminance(image: Image.Image) -> Floats:
    """Return the luminance (H, W), 0..255."""
    return np.asarray(image.convert("L"), np.float64)


def blurred(plane: Floats, sigma: float) -> Floats:
    """Blur with a Gaussian of this standard deviation, px, truncated at four; edge pixels are repeated."""
    if sigma <= 0:
        return plane
    radius = max(1, int(4 * sigma + 0.5))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        plane = _along(plane, kernel, axis)
    return plane


def sobel(plane: Floats) -> tuple[Floats, Floats]:
    """Return the slopes to the right and downwards, both (H, W), scaled by eight."""
    smooth, slope = np.array([1.0, 2.0, 1.0]), np.array([-1.0, 0.0, 1.0])
    return _along(_along(plane, smooth, 0), slope, 1), _along(_along(plane, slope, 0), smooth, 1)


def thin(strength: Floats, across: Floats, down: Floats) -> Mask:
    """Non-maximum suppression: where the slope is a maximum in its own direction, interpolated between
    pixels.

    Of two equal neighbours the first is kept.
    """
    padded = np.pad(strength, 1)
    height, width = strength.shape

    def shifted(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Floats:
        y, x = np.indices((height, width))
        neighbour: Floats = padded[y + 1 + rows, x + 1 + columns]
        return neighbour

    wide, steep = np.abs(across), np.abs(down)
    right, below = np.where(across < 0, -1, 1), np.where(down < 0, -1, 1)
    flat = wide >= steep  # the direction is nearer to the row than to the column
    share = np.minimum(wide, steep) / np.maximum(np.maximum(wide, steep), 1e-12)
    straight = (np.where(flat, 0, below), np.where(flat, right, 0))
    kept = np.ones(strength.shape, bool)
    for sign in (1, -1):
        level = shifted(sign * straight[0], sign * straight[1])
        diagonal = shifted(sign * below, sign * right)
        neighbour = (1 - share) * level + share * diagonal
        kept &= strength > neighbour if sign == 1 else strength >= neighbour
    return kept & (strength > 0)


def connected(weak: Mask, strong: Mask) -> Mask:
    """Return the weak pixels that are connected to a strong one, also diagonally."""
    found = strong & weak
    height, width = weak.shape
    edge = list(zip(*np.nonzero(found), strict=True))
    while edge:
        y, x = edge.pop()
        for row in range(max(0, y - 1), min(height, y + 2)):
            for column in range(max(0, x - 1), min(width, x + 2)):
                if weak[row, column] and not found[row, column]:
                    found[row, column] = True
                    edge.append((row, column))
    return found


def from_mask(mask: Mask) -> Image.Image:
    """Return a picture that is white where the mask is true."""
    return Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).convert("RGB")


def _along(plane: Floats, kernel: Floats, axis: int) -> Floats:
    """Cross-correlation with a short kernel along one axis."""
    radius = len(kernel) // 2
    margins = [(0, 0), (0, 0)]
    margins[axis] = (radius, radius)
    padded = np.pad(plane, margins, mode="edge")
    length = plane.shape[axis]
    result = np.zeros(plane.shape)
    for i, weight in enumerate(kernel):
        result += weight * padded.take(range(i, i + length), axis=axis)
    return result
