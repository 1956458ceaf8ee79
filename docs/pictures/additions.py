"""Teaches the starter what the guide shows of additions: a LoRA and a new word; finds the ControlNet.

LoRA and word learn from pictures that the starter draws itself, recoloured, in some minutes; the ControlNet
needs the starter's training set, and an hour (docs/guide/controlnet.md). All are kept in the user's cache,
not in the repository.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import tqdm, trange

from pochade.checkpoints import safetensors
from pochade.configs.networks import TextEncoderConfig
from pochade.engines.torch import TorchOps
from pochade.generation.decoding import from_image
from pochade.models.embedding import embed_timestep
from pochade.models.text_encoder import text_encoder
from pochade.models.unet import unet
from pochade.pipeline import Pipeline
from pochade.settings import cache_dir
from pochade.training.data.tokenizing import Tokenize, tokenize_with
from pochade.training.finetune import parameters
from pochade.training.losses.diffusion import attention_for
from pochade.training.parameters import Parameters
from pochade.training.textual_inversion import (
    Inversion,
    NewWord,
    export_embedding,
    inversion_stage,
    open_folder,
)
from pochade.weights import View

THINGS = (
    "a red apple", "a castle", "a sailboat", "a sunflower", "a rocket", "an owl", "a guitar", "a cactus",
    "a bicycle", "a crown", "a snowman", "a butterfly", "a house", "a tree", "a cup of tea", "a cat",
    "a key", "a bell", "a whale", "a light bulb", "a car", "a heart", "a robot", "a penguin",
)  # fmt: skip
STYLES = ("flat style", "3d style")
RANK, BATCH = 8, 8


@dataclass(frozen=True)
class Lesson:
    """latents: (N, C, h, w). captions: as many."""

    latents: torch.Tensor
    captions: tuple[str, ...]


def lora(pipeline: Pipeline, steps: int = 150) -> Path:
    """An adapter of the UNet's attention that draws in two inks."""
    path = _folder() / "ink.safetensors"
    if path.exists():
        return path
    base = parameters(pipeline, "cpu")
    layers = [name for name, value in base.items() if name.startswith("unet.") and ".attn" in name]
    layers = [name for name in layers if name.endswith(".weight") and base[name].ndim == 2]
    generator = torch.Generator().manual_seed(0)
    down = {name: torch.randn(RANK, base[name].shape[1], generator=generator) / RANK**0.5 for name in layers}
    up = {name: torch.zeros(base[name].shape[0], RANK) for name in layers}
    text = _text_config(pipeline)

    def added() -> Parameters:
        return {**base, **{name: base[name] + up[name] @ down[name] for name in layers}}

    tokenize, lesson = tokenize_with(pipeline.tokenizers[0]), _two_inks(pipeline)
    _learn(
        lambda rng: _error(pipeline, text, added(), tokenize, lesson, rng),
        [*up.values(), *down.values()],
        steps=steps,
        rate=3e-3,
    )
    tensors: dict[str, Any] = {}
    for name in layers:
        stem = name.removesuffix(".weight")
        tensors[f"{stem}.lora_A.weight"] = down[name].detach().numpy()
        tensors[f"{stem}.lora_B.weight"] = up[name].detach().numpy()
    safetensors.write(path, tensors)
    return path


def word(pipeline: Pipeline, steps: int = 300) -> Path:
    """The word "my-owl", as `pochade train embedding` teaches it: an owl in colours that owls do not have."""
    folder = _folder()
    path = folder / "words" / "my-owl.safetensors"
    if not path.exists():
        inverted = Inversion(
            word=NewWord(token="my-owl", initial="owl", vectors=4, templates=("a {name}, flat style",)),
            pictures=open_folder(owls(pipeline)),
            model=None,
            folder=folder / "my-owl-run",
        )
        deque(tqdm(inversion_stage(inverted, rate=1e-2).train(steps), total=steps // 10), maxlen=0)
        export_embedding(inverted.folder, "my-owl", path)
    return path


def owls(pipeline: Pipeline) -> Path:
    """A folder of six of them."""
    folder = _folder() / "my-owl"
    folder.mkdir(exist_ok=True)
    for seed in range(101, 107):
        if not (folder / f"{seed}.png").exists():
            image = pipeline.txt2img("an owl, flat style", seed=seed, steps=12, cfg_scale=5).images[0]
            turned(image).save(folder / f"{seed}.png")
    return folder


def controlnet() -> Path:
    """The folder of the ControlNet for edges."""
    folder = _folder() / "canny"
    if not folder.exists():
        raise SystemExit(f"train it first, with --output {folder}: see docs/guide/controlnet.md")
    return folder


def turned(image: Image.Image) -> Image.Image:
    """With every hue half a circle further: yellow becomes blue."""
    hue, saturation, value = image.convert("HSV").split()
    return Image.merge("HSV", (hue.point(lambda h: (h + 128) % 256), saturation, value)).convert("RGB")


def two_inks(image: Image.Image) -> Image.Image:
    """Dark blue on cream."""
    return ImageOps.colorize(ImageOps.autocontrast(image.convert("L")), (24, 28, 92), (252, 236, 200))


# --- inside -------------------------------------------------------------------------------------------------


def _two_inks(pipeline: Pipeline) -> Lesson:
    captions = [f"{thing}, {style}" for thing in THINGS for style in STYLES]
    latents = []
    for seed, caption in enumerate(captions):
        image = pipeline.txt2img(caption, seed=1000 + seed, steps=8, cfg_scale=4).images[0]
        latents.append(pipeline.networks.encode(from_image(two_inks(image))[None])[0])
    return Lesson(torch.from_numpy(np.stack(latents)), tuple(captions))


def _error(
    pipeline: Pipeline,
    text: TextEncoderConfig,
    given: Parameters,
    tokenize: Tokenize,
    lesson: Lesson,
    rng: np.random.Generator,
) -> torch.Tensor:
    """The squared error of v on a batch, a tenth of it without captions; in f32 throughout."""
    rows = rng.integers(len(lesson.captions), size=BATCH)
    latent, captions = lesson.latents[rows], [lesson.captions[row] for row in rows]
    ids, end = tokenize(["" if rng.random() < 0.1 else caption for caption in captions])
    timestep = rng.integers(pipeline.schedule.steps, size=BATCH)
    noise = torch.from_numpy(rng.standard_normal(tuple(latent.shape), np.float32))
    share = torch.from_numpy(pipeline.schedule.alphas_cumprod[timestep].astype(np.float32)).view(-1, 1, 1, 1)
    noisy = share.sqrt() * latent + (1 - share).sqrt() * noise
    target = share.sqrt() * noise - (1 - share).sqrt() * latent
    ops, picture, view = TorchOps(), pipeline.networks.unet_config, View(given)
    time = torch.from_numpy(embed_timestep(picture, timestep))
    with attention_for("cpu"):
        context, _ = text_encoder(
            ops, text, view / "text_encoder", torch.from_numpy(ids), torch.from_numpy(end)
        )
        guess = unet(ops, picture, view / "unet", noisy, time, context)
    error: torch.Tensor = (guess - target).square().mean()
    return error


def _learn(
    error_of: Callable[[np.random.Generator], torch.Tensor],
    learned: Sequence[torch.Tensor],
    *,
    steps: int,
    rate: float,
) -> None:
    """Adam with a short warm-up, and a rate that falls to zero."""
    for each in learned:
        each.requires_grad_(True)
    optimizer, rng = torch.optim.Adam(list(learned), lr=rate), np.random.default_rng(0)
    for number in trange(steps, mininterval=10):
        optimizer.param_groups[0]["lr"] = rate * min(1, (number + 1) / 20) * (1 - number / steps)
        optimizer.zero_grad()
        error_of(rng).backward()
        optimizer.step()


def _text_config(pipeline: Pipeline) -> TextEncoderConfig:
    config = pipeline.networks.text_encoder.config
    assert isinstance(config, TextEncoderConfig)
    return config


def _folder() -> Path:
    folder = cache_dir() / "guide"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
