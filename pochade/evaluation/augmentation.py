"""Augmentation of the scorer's training pictures, so that it judges content and not sharpness."""

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from pochade.training.data.scenes import BACKGROUNDS

Pixels = NDArray[np.uint8]

SIZES = (0.7, 1.08)
"""Side of the picture as a share of the canvas."""

TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
"""Brightness and the plane of hues (FCC NTSC, 1953)."""


def augmented(
    pictures: Pixels, mirrorable: NDArray[np.bool_], hue_free: NDArray[np.bool_], side: int, rng: Generator
) -> torch.Tensor:
    """(B, S, S, 4) with straight alpha -> (B, 3, side, side) in -1..1.

    mirrorable: (B,), whether the mirror image shows the same. hue_free: (B,), whether any hue does.
    """
    batch = len(pictures)
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    colour, alpha = x[:, :3], x[:, 3:]
    x = torch.cat([recoloured(colour, hue_free, rng) * alpha, alpha], dim=1)
    x = F.grid_sample(x, random_affine(mirrorable, side, rng), align_corners=False)
    x = x[:, :3] + (1 - x[:, 3:]) * backgrounds(batch, side, rng)
    for index in range(batch):
        x[index] = degrade(x[index], rng)
    noise = torch.from_numpy(rng.standard_normal(x.shape, np.float32))
    x = x + noise * torch.from_numpy(0.05 * rng.random((batch, 1, 1, 1), np.float32) ** 2)
    return 2 * x.clamp(0, 1) - 1


def recoloured(colour: torch.Tensor, hue_free: NDArray[np.bool_], rng: Generator) -> torch.Tensor:
    """Shift brightness, saturation and hue a little; the hue freely for some of the pictures where any is
    right."""
    batch = len(colour)
    turn = rng.normal(0, math.radians(5), batch)
    turn = np.where(hue_free & (rng.random(batch) < 0.15), rng.uniform(-math.pi, math.pi, batch), turn)
    saturation = rng.uniform(0.75, 1.25, batch)
    matrix = np.zeros((batch, 3, 3), np.float32)
    matrix[:, 0, 0] = rng.uniform(0.88, 1.1, batch)
    matrix[:, 1, 1] = matrix[:, 2, 2] = saturation * np.cos(turn)
    matrix[:, 1, 2], matrix[:, 2, 1] = -saturation * np.sin(turn), saturation * np.sin(turn)
    mixed = torch.linalg.inv(TO_YIQ) @ torch.from_numpy(matrix) @ TO_YIQ
    return torch.einsum("bij,bjhw->bihw", mixed, colour).clamp(0, 1)


def random_affine(mirrorable: NDArray[np.bool_], side: int, rng: Generator) -> torch.Tensor:
    """Random sampling grids (B, side, side, 2): scaled, shifted, rotated and bent."""
    batch = len(mirrorable)
    size = rng.uniform(*SIZES, (2, batch)).max(axis=0)  # large ones oftener
    stretch = np.exp(rng.normal(0, 0.05, batch))
    turn = rng.normal(0, math.radians(5), batch)
    mirror = np.where(mirrorable & (rng.random(batch) < 0.5), -1, 1)
    matrix = np.zeros((batch, 2, 3), np.float32)
    matrix[:, 0, 0], matrix[:, 0, 1] = mirror * np.cos(turn) / size * stretch, -np.sin(turn) / size
    matrix[:, 1, 0], matrix[:, 1, 1] = mirror * np.sin(turn) / size, np.cos(turn) / size / stretch
    room = np.maximum(1.08 - size, 0.03)
    matrix[:, :, 2] = (rng.uniform(-1, 1, (2, batch)) * room / size).T
    grid = F.affine_grid(torch.from_numpy(matrix), [batch, 4, side, side], align_corners=False)
    strength = 0.06 * rng.random((batch, 1, 1, 1), np.float32) ** 2
    bend = torch.from_numpy(strength * rng.standard_normal((batch, 2, 5, 5), np.float32))
    bend = F.interpolate(bend, size=(side, side), mode="bicubic", align_corners=True)
    return grid + bend.permute(0, 2, 3, 1)


def backgrounds(batch: int, side: int, rng: Generator) -> torch.Tensor:
    """Backgrounds (B, 3, side, side): half of them white, else a named or any colour; a few are uneven."""
    named = np.array(list(BACKGROUNDS.values()), np.float32) / 255
    colours = named[rng.integers(len(named), size=batch)] + rng.normal(0, 0.03, (batch, 3))
    kind = rng.random((batch, 1))
    colours = np.where(kind < 0.8, colours, rng.random((batch, 3)))
    colours = np.where(kind < 0.5, 1.0, colours)
    uneven = 0.05 * (rng.random((batch, 1, 1, 1)) < 0.25) * rng.standard_normal((batch, 3, 3, 3))
    waves = torch.from_numpy(uneven.astype(np.float32))
    waves = F.interpolate(waves, size=(side, side), mode="bicubic", align_corners=True)
    return torch.from_numpy(colours.astype(np.float32))[:, :, None, None] + waves


def degrade(picture: torch.Tensor, rng: Generator) -> torch.Tensor:
    """Degrade a picture (3, side, side) at random: coarser, partly covered, compressed."""
    side = picture.shape[-1]
    if rng.random() < 0.3:
        coarse = int(rng.integers(round(0.35 * side), round(0.9 * side)))
        small = F.interpolate(picture[None], size=(coarse, coarse), mode="bilinear", antialias=True)
        picture = F.interpolate(small, size=(side, side), mode="bicubic")[0]
    if rng.random() < 0.1:
        picture = picture.clone()
        height, width = rng.integers(side // 8, side // 3, 2)
        top, left = rng.integers(side - height), rng.integers(side - width)
        covered = torch.from_numpy(rng.random((3, 1, 1), np.float32))
        picture[:, top : top + height, left : left + width] = covered
    return compressed(picture, int(rng.integers(15, 80))) if rng.random() < 0.15 else picture


def compressed(picture: torch.Tensor, quality: int) -> torch.Tensor:
    """Compress to a JPEG of this quality and decode: (3, H, W) in 0..1."""
    pixels = (255 * picture.clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
