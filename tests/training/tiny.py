"""The real losses at a size that trains in milliseconds."""

import numpy as np
import torch

from pochade.configs.networks import AutoencoderConfig, TextEncoderConfig, UNetConfig
from pochade.diffusion.schedule import noise_schedule
from pochade.training.data.examples import Examples, uniform_latents
from pochade.training.loop import Loss
from pochade.training.losses import autoencoder, diffusion

TEXT = TextEncoderConfig(
    vocabulary=20, positions=6, width=16, feed_forward_width=32, layers=1, heads=2, end_token=19
)
UNET = UNetConfig(
    widths=(8, 16),
    down_depths=((1,), (0,)),
    mid_depth=1,
    up_depths=((0, 0), (1, 1)),
    heads=(2, 2),
    context_width=16,
    groups=4,
    sample_size=4,
)
CODER = AutoencoderConfig(widths=(8, 8, 8), layers=1, groups=4)


def examples(count: int) -> Examples:
    """Return random latents whose captions are letters."""
    latents = torch.randn(count, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    return uniform_latents(latents.half(), lambda index, rng: "abcdefgh"[index])


def tokenize(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    rows = np.array([[18, ord(text[0]) - 97 if text else 9, 19, 19, 19, 19] for text in texts])
    return rows, np.full(len(texts), 2)


def diffusion_loss() -> Loss:
    return diffusion.loss(TEXT, UNET, noise_schedule(), examples(6), tokenize, batch=8)


def square(rng: np.random.Generator) -> np.ndarray:
    """Return a square in one of four colours on white: (16, 16, 3)."""
    picture = np.full((16, 16, 3), 255, np.uint8)
    top, left = rng.integers(2, 6, size=2)
    picture[top : top + 8, left : left + 8] = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)][
        rng.integers(4)
    ]
    return picture


def autoencoder_loss() -> Loss:
    return autoencoder.loss(CODER, square, 4)
