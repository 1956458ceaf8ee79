"""Making pictures and latents larger without a model."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pochade.errors import InvalidRequest

Floats = NDArray[np.float32]
Resampling = Image.Resampling

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


def upscaled(image: Image.Image, width: int, height: int, upscaler: str = "Lanczos") -> Image.Image:
    """The picture in another size, px. upscaler: a name of UPSCALERS."""
    return image.resize((width, height), UPSCALERS[upscaler])


def upscaled_latent(latent: Floats, width: int, height: int, upscaler: str = "Latent") -> Floats:
    """(B, C, h, w) -> (B, C, height, width). upscaler: a name of LATENT_UPSCALERS."""
    planes = np.ascontiguousarray(latent, np.float32).reshape(-1, *latent.shape[2:])
    size, resampling = (width, height), LATENT_UPSCALERS[upscaler]
    larger = np.stack([np.asarray(Image.fromarray(plane).resize(size, resampling)) for plane in planes])
    return larger.reshape(*latent.shape[:2], height, width)
