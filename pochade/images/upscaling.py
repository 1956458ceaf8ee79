"""Upscales pictures and latents without a model."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pochade.errors import InvalidRequest

Floats = NDArray[np.float32]
Resampling = Image.Resampling
Box = tuple[float, float, float, float]
"""A part of a picture or latent, in its pixels: left, top, right, bottom."""

UPSCALERS: Mapping[str, Resampling] = MappingProxyType(
    {
        "Lanczos": Resampling.LANCZOS,
        "Bicubic": Resampling.BICUBIC,
        "Bilinear": Resampling.BILINEAR,
        "Nearest": Resampling.NEAREST,
    }
)
"""Upscalers for pictures: name for users -> filter."""

LATENT_UPSCALERS: Mapping[str, Resampling] = MappingProxyType(
    {
        "Latent": Resampling.BILINEAR,
        "Latent (bicubic)": Resampling.BICUBIC,
        "Latent (nearest)": Resampling.NEAREST,
    }
)
"""Upscalers for latents. Their results are softer or coarser, which the second pass must correct."""


REACH = 3
"""The radius of the widest filter (Lanczos) in pixels; it is larger when downscaling."""

ROUNDING = 1e-6
"""Pixels."""

MODEL_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")


def is_model_file(name: str) -> bool:
    """Whether an upscaler's name is the path of a model."""
    return Path(name).suffix.lower() in MODEL_SUFFIXES


def find_upscaler(name: str) -> str:
    """Return the upscaler's canonical name for a name in any case. Raises InvalidRequest, listing all."""
    names = (*UPSCALERS, *LATENT_UPSCALERS)
    for known in names:
        if known.lower() == name.strip().lower():
            return known
    raise InvalidRequest(
        f"upscaler '{name}' is unknown; one of: {', '.join(names)}, or an ESRGAN model by file or name"
    )


def upscaled(
    image: Image.Image,
    width: int,
    height: int,
    upscaler: str = "Lanczos",
    *,
    box: Box | None = None,
    tiling: bool = False,
) -> Image.Image:
    """Resize a picture, px.

    upscaler: a name of UPSCALERS. box: use only this part. tiling: opposite edges fit together.
    """
    return _resized(image, (width, height), UPSCALERS[upscaler], box, tiling)


def upscaled_latent(
    latent: Floats,
    width: int,
    height: int,
    upscaler: str = "Latent",
    *,
    box: Box | None = None,
    tiling: bool = False,
) -> Floats:
    """(B, C, h, w) -> (B, C, height, width). upscaler: a name of LATENT_UPSCALERS. The rest: as above."""
    planes = np.ascontiguousarray(latent, np.float32).reshape(-1, *latent.shape[2:])
    size, how = (width, height), LATENT_UPSCALERS[upscaler]
    larger = np.stack([np.asarray(_resized(Image.fromarray(p), size, how, box, tiling)) for p in planes])
    return larger.reshape(*latent.shape[:2], height, width)


def _resized(
    image: Image.Image, size: tuple[int, int], how: Resampling, box: Box | None, tiling: bool
) -> Image.Image:
    """tiling: filters wrap around at the edges."""
    left, top, right, bottom = (0.0, 0.0, *image.size) if box is None else box
    if box is not None and how is Resampling.NEAREST:
        # Not with Pillow, which accumulates steps, so that rounding decides between two equally near pixels.
        columns, rows = (_nearest(*sides) for sides in ((left, right, size[0]), (top, bottom, size[1])))
        return Image.fromarray(np.asarray(image)[np.ix_(rows, columns)])
    if not tiling:
        return image.resize(size, how, (left, top, right, bottom))
    shrunk = max(1.0, (right - left) / size[0], (bottom - top) / size[1])
    more = math.ceil(REACH * shrunk) + 1
    pixels = np.asarray(image)
    margins = ((more, more),) * 2 + ((0, 0),) * (pixels.ndim - 2)
    around = Image.fromarray(np.pad(pixels, margins, mode="wrap"))
    return around.resize(size, how, (left + more, top + more, right + more, bottom + more))


def _nearest(begin: float, end: float, count: int) -> NDArray[np.intp]:
    """The pixels nearest to `count` evenly spaced positions; of two equally near, the second."""
    places = begin + (np.arange(count) + 0.5) * (end - begin) / count
    return np.floor(places + ROUNDING).astype(np.intp)
