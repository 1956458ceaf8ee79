"""Writes contact sheets of samples during training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pochade.atomic import replacing
from pochade.configs.networks import AutoencoderConfig
from pochade.engines.torch import TorchOps
from pochade.images.sheet import sheet
from pochade.models.autoencoder import decode
from pochade.pipeline.loader import load
from pochade.training.loop import Samples
from pochade.training.losses.autoencoder import Draw, encode_all
from pochade.training.parameters import Parameters
from pochade.weights import View

STEPS = 20


def drawn(model: Path, folder: Path, prompts: Sequence[str], step: int, *, device: str) -> Path:
    """Draw the prompts with a model folder, each with its own seed, as `<folder>/<step>.png`."""
    pipeline = load(model, engine="torch", device=device)
    images = [
        pipeline.txt2img(prompt, seed=seed, steps=STEPS).images[0] for seed, prompt in enumerate(prompts)
    ]
    return _write(sheet(images, prompts), folder, step)


def reconstructions(
    config: AutoencoderConfig, rest: Parameters, draw: Draw, folder: Path, *, device: str, count: int = 16
) -> Samples:
    """A callback that writes pictures next to their reconstructions.

    rest: parameters that are not trained and therefore not passed to the callback.
    """

    @torch.no_grad()
    def write(parameters: Parameters, step: int) -> Path:
        rng = np.random.default_rng(0)
        pictures = np.stack([draw(rng) for _ in range(count)])
        whole = {**rest, **parameters}
        latents = encode_all(config, whole, pictures, device=device)
        results = decode(TorchOps(), config, View(whole), latents.to(device)).clamp(-1, 1).float().cpu()
        shown = ((results + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        pairs = [part for pair in zip(pictures, shown, strict=True) for part in pair]
        images = [Image.fromarray(part) for part in pairs]
        return _write(sheet(images, ["picture", "reconstruction"] * count), folder, step)

    return write


def _write(page: Image.Image, folder: Path, step: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{step:06d}.png"
    with replacing(path) as file:
        page.save(file, "PNG")
    return path
