"""Training the part of the scorer that tells styles apart."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from pochade.engines.outline import outline
from pochade.engines.torch import TorchOps
from pochade.evaluation import real
from pochade.evaluation.augmentation import compressed
from pochade.evaluation.held_out import held_out
from pochade.evaluation.texture import SIDE, texture
from pochade.evaluation.towers import ScorerConfig, style_tower
from pochade.pipeline.shapes import with_config
from pochade.training.corpus import Corpus
from pochade.training.loop import Loss, Plan, Progress, train
from pochade.training.parameters import Parameters, create
from pochade.weights import View

Floats = NDArray[np.float32]

SCALE = 20.0
"""Of the cosines, before the softmax."""

VIEWS = 3
"""Of each picture: as it is, and as models may draw it."""


def fresh(config: ScorerConfig, seed: int) -> Parameters:
    """Parameters `style.*`: those of the tower, and one place for each style."""
    inputs = {"texture": ((1, config.textures), "f32")}
    shapes = outline(with_config(style_tower, config), inputs).parameters
    places = np.random.default_rng(seed).standard_normal((config.styles, config.style_width), np.float32)
    return {**create(shapes, seed), "style.places": torch.from_numpy(places)}


def textures(corpus: Corpus, styles: list[str], seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """Of all views of what may be learned: (N, textures), and the number of each one's style (N,)."""
    rows: list[Floats] = []
    numbers: list[int] = []
    for index, entry in enumerate(corpus.entries):
        if entry.style not in styles or held_out(entry):
            continue
        for view in range(VIEWS):
            image = real.framed(corpus, index, SIDE)
            rows.append(texture(worn(image, np.random.default_rng((seed, index, view))) if view else image))
            numbers.append(styles.index(entry.style))
    return np.stack(rows), np.array(numbers)


def worn(image: Image.Image, rng: Generator) -> Image.Image:
    """A picture after what a small latent space may do to it: softer, noisier, a little off in hue."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    coarse = int(rng.integers(SIDE // 2, SIDE))
    if rng.random() < 0.7:
        small = F.interpolate(pixels[None], size=(coarse, coarse), mode="bilinear", antialias=True)
        pixels = F.interpolate(small, size=(SIDE, SIDE), mode="bicubic")[0]
    gains = torch.from_numpy(rng.normal(1, 0.015, (3, 1, 1)).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal(pixels.shape, np.float32))
    pixels = (pixels * gains + 0.012 * float(rng.random() ** 2) * noise).clamp(0, 1)
    if rng.random() < 0.4:
        pixels = compressed(pixels, int(rng.integers(40, 95)))
    return Image.fromarray((255 * pixels).round().byte().permute(1, 2, 0).numpy())


def loss(config: ScorerConfig, known: Floats, numbers: NDArray[np.int64], *, batch: int) -> Loss:
    """Cross-entropy of scaled cosines of textures and all styles."""
    ops = TorchOps()

    def step(parameters: Parameters, rng: Generator) -> torch.Tensor:
        picked = rng.choice(len(known), size=batch)
        view = View(parameters)
        drawn = F.dropout(torch.from_numpy(known[picked]), 0.1)
        drawn = F.normalize(style_tower(ops, config, view, drawn), dim=-1)
        places = F.normalize(parameters["style.places"], dim=-1)
        return F.cross_entropy(SCALE * drawn @ places.T, torch.from_numpy(numbers[picked]))

    return step


def teach(
    config: ScorerConfig, known: Floats, numbers: NDArray[np.int64], folder: Path, steps: int = 3000
) -> Iterator[Progress]:
    """Train in `folder`, resuming what is there."""
    plan = Plan(
        steps=steps, learning_rate=1e-3, warmup=100, weight_decay=0.3, averaging=0.99, save_every=500,
        log_every=250,
    )  # fmt: skip
    return train(loss(config, known, numbers, batch=256), fresh(config, seed=0), plan, folder)
