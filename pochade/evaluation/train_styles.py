"""Trains the part of the scorer that distinguishes styles."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from pochade.engines.shape_inference import infer_shapes
from pochade.engines.torch import TorchOps
from pochade.evaluation import real_images
from pochade.evaluation.augmentation import compressed
from pochade.evaluation.held_out import held_out
from pochade.evaluation.scorer_networks import ScorerConfig, style_tower
from pochade.evaluation.texture import SIDE, texture
from pochade.loading.parameter_shapes import with_config
from pochade.training.corpus import Corpus
from pochade.training.loop import Loss, TrainingPlan, TrainingProgress, train
from pochade.training.parameters import Parameters, create
from pochade.weights import View

Floats = NDArray[np.float32]

SCALE = 20.0
"""Of the cosines, before the softmax."""

PAPER = 0.98
"""Of 1: where all channels are lighter there is only the sheet."""

COARSEST = 0.4
"""Side of the coarsest drawing, as a share of the picture's."""

HUES = ((1, 0.025), (0, 0.01))
"""Mean and deviation of the gains of the channels, and of what is added to them."""

VIEWS = 4
"""Views of each picture: the original, and degraded ones as models may draw it."""


def initialize(config: ScorerConfig, seed: int) -> Parameters:
    """Parameters `style.*`: those of the tower, and one place for each style."""
    inputs = {"texture": ((1, config.textures), "f32")}
    shapes = infer_shapes(with_config(style_tower, config), inputs).parameters
    places = np.random.default_rng(seed).standard_normal((config.styles, config.style_width), np.float32)
    return {**create(shapes, seed), "style.places": torch.from_numpy(places)}


def textures(corpus: Corpus, styles: list[str], seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """The textures of all views of the training pictures (N, textures), and the index of each one's style
    (N,)."""
    rows: list[Floats] = []
    numbers: list[int] = []
    for index, entry in enumerate(corpus.entries):
        if entry.style not in styles or held_out(entry):
            continue
        for view in range(VIEWS):
            image = real_images.framed(corpus, index, SIDE)
            rows.append(
                texture(degraded(image, np.random.default_rng((seed, index, view))) if view else image)
            )
            numbers.append(styles.index(entry.style))
    return np.stack(rows), np.array(numbers)


def degraded(image: Image.Image, rng: Generator) -> Image.Image:
    """A picture with the artefacts of a small latent space: softer, uneven, slightly shifted in hue."""
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    drawn = (x.amin(dim=0) < PAPER).float()
    if rng.random() < 0.8:
        coarse = int(rng.integers(round(COARSEST * SIDE), SIDE))
        small = F.interpolate(x[None], size=(coarse, coarse), mode="bilinear", antialias=True)
        x = F.interpolate(small, size=(SIDE, SIDE), mode="bicubic")[0]
    gains, shifts = (torch.from_numpy(rng.normal(m, s, (3, 1, 1)).astype(np.float32)) for m, s in HUES)
    waves = sum((_waves(rng, side) for side in (8, SIDE // 4)), start=torch.zeros_like(x))
    grain = 0.012 * float(rng.random() ** 2) * torch.from_numpy(rng.standard_normal(x.shape, np.float32))
    x = (x * gains + (shifts + waves) * drawn + grain).clamp(0, 1)
    if rng.random() < 0.3:
        x = compressed(x, int(rng.integers(40, 95)))
    return Image.fromarray((255 * x).round().byte().permute(1, 2, 0).numpy())


def _waves(rng: Generator, side: int) -> torch.Tensor:
    """Unevenness in `side` cells across: (3, SIDE, SIDE)."""
    waves = torch.from_numpy(rng.standard_normal((1, 3, side, side), np.float32))
    strength = 0.03 * float(rng.random() ** 2)
    return strength * F.interpolate(waves, size=(SIDE, SIDE), mode="bicubic")[0]


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


def fit(
    config: ScorerConfig, known: Floats, numbers: NDArray[np.int64], folder: Path, steps: int = 3000
) -> Iterator[TrainingProgress]:
    """Train in `folder`, resuming what is there."""
    plan = TrainingPlan(
        steps=steps, learning_rate=1e-3, warmup=100, weight_decay=0.3, averaging=0.99, save_every=500,
        log_every=250,
    )  # fmt: skip
    return train(loss(config, known, numbers, batch=256), initialize(config, seed=0), plan, folder)
