"""Sinusoidal embeddings of timesteps, of XL's sizes and of LCM's guidance scale, computed in numpy."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pochade.configs.networks import UNetConfig


def sinusoidal(
    values: ArrayLike, width: int, *, flip_sin_to_cos: bool = True, frequency_shift: float = 0.0
) -> NDArray[np.float32]:
    """(...) -> (..., width): cosines and sines at `width / 2` frequencies from 1 down to 1 / 10000.

    Vaswani et al. 2017, section 3.5. With `flip_sin_to_cos` the cosines come first.
    """
    half = width // 2
    frequencies = np.exp(-np.log(10000.0) * np.arange(half) / (half - frequency_shift))
    # float32 products, as in the reference: at timestep 999 its rounding is visible in the sixth digit
    angles = np.asarray(values, np.float32)[..., None] * frequencies.astype(np.float32)
    parts = (np.cos(angles), np.sin(angles)) if flip_sin_to_cos else (np.sin(angles), np.cos(angles))
    return np.concatenate(parts, axis=-1)


def embed_timestep(config: UNetConfig, timestep: ArrayLike) -> NDArray[np.float32]:
    """(B,) -> (B, widths[0]), what `unet` takes as `time`."""
    return sinusoidal(
        timestep,
        config.widths[0],
        flip_sin_to_cos=config.flip_sin_to_cos,
        frequency_shift=config.frequency_shift,
    )


def embed_sizes(config: UNetConfig, pooled: NDArray[np.float32], sizes: ArrayLike) -> NDArray[np.float32]:
    """XL's added conditioning: pooled text (B, P) and sizes (B, n) -> (B, P + n * added_time_width).

    The base model takes six: original height and width, crop top and left, target height and width (Podell
    et al. 2023, section 2.2). The refiner takes the first four and an aesthetic score.
    """
    assert config.added_time_width is not None
    embedded = sinusoidal(
        sizes,
        config.added_time_width,
        flip_sin_to_cos=config.flip_sin_to_cos,
        frequency_shift=config.frequency_shift,
    )
    return np.concatenate([pooled, embedded.reshape(len(pooled), -1)], axis=1, dtype=np.float32)


def embed_guidance(config: UNetConfig, cfg_scale: ArrayLike) -> NDArray[np.float32]:
    """LCM's guidance scale (B,) -> (B, guidance_width): 1000 * (scale - 1), sines first (Luo et al. 2023)."""
    assert config.guidance_width is not None
    values = 1000.0 * (np.asarray(cfg_scale, np.float32) - 1.0)
    return sinusoidal(values, config.guidance_width, flip_sin_to_cos=False, frequency_shift=1.0)
