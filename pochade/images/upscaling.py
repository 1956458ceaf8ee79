"""Making pictures and latents larger without a model."""

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
"""Of pictures, by the names that users know."""

LATENT_UPSCALERS: Mapping[str, Resampling] = MappingProxyType(
    {
        "Latent": Resampling.BILINEAR,
        "Latent (bicubic)": Resampling.BICUBIC,
        "Latent (nearest)": Resampling.NEAREST,
    }
)
"""Of latents: softer, or coarser, than those of pictures; the second pass must make up for it."""


REACH = 3
"""Pixels on either side of a place that the widest filter (Lanczos) reads; more where a picture shrinks."""

ROUNDING = 1e-6
"""Pixels."""

MODEL_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")


def is_model_file(name: str) -> bool:
    """Whether an upscaler is named by the file of a model."""
    return Path(name).suffix.lower() in MODEL_SUFFIXES


def find_upscaler(name: str) -> str:
    """The upscaler's own name, in any case. Raises InvalidRequest, naming all, if there is none."""
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
    """The picture in another size, px.

    upscaler: a name of UPSCALERS. box: of the picture only this part. tiling: its edges fit together.
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
    """tiling: beyond an edge the filters see what stands at the opposite one."""
    left, top, right, bottom = (0.0, 0.0, *image.size) if box is None else box
    if box is not None and how is Resampling.NEAREST:
        # By ourselves: Pillow adds up steps, and their rounding decides between two pixels that are as near.
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
    """The pixels that lie nearest to `count` places between two others; of two as near, the second."""
    places = begin + (np.arange(count) + 0.5) * (end - begin) / count
    return np.floor(places + ROUNDING).astype(np.intp)
