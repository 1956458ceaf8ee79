"""Teaches the starter what the guide shows of additions: a LoRA, a new word and a ControlNet.

They learn from pictures that the starter draws itself, recoloured for the first two: some minutes each on two
cores. They are kept in the user's cache and not in the repository.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import trange

from pochade.checkpoints import safetensors
from pochade.checkpoints.write import write_component
from pochade.engines.torch import TorchOps
from pochade.images.preprocessors import preprocessed
from pochade.models.config import TextEncoderConfig, controlnet_config
from pochade.models.controlnet import controlnet, embed_hint
from pochade.models.embedding import embed_timestep
from pochade.models.text_encoder import text_encoder
from pochade.models.unet import unet
from pochade.pipeline import Pipeline
from pochade.pipeline.drawing.pictures import from_image
from pochade.pipeline.loading.shapes import controlnet_shapes
from pochade.prompts.phrases import with_phrases
from pochade.settings import cache_dir
from pochade.training.data.tokenizing import tokenize_with
from pochade.training.finetune import parameters
from pochade.training.losses.diffusion import attention_for, loss
from pochade.training.parameters import create
from pochade.weights import View

THINGS = (
    "a red apple", "a fox", "a castle", "a sailboat", "a sunflower", "a rocket", "an owl", "a guitar",
    "a cactus", "a mushroom", "a bicycle", "a crown", "a snowman", "a butterfly", "a house", "a tree",
    "a cup of tea", "a cat", "a key", "a bell", "a whale", "a palm tree", "a light bulb", "a birthday cake",
    "a car", "a heart", "a star", "an umbrella", "a robot", "a ghost", "a penguin", "a pear",
)  # fmt: skip
STYLES = ("flat style", "3d style", "noto style")
TABLE = "text_encoder.embeddings.token_embedding.weight"
RANK, WORD, VECTORS = 8, "duskwood", 3

Parameters = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Lesson:
    """latents: (N, C, h, w). captions: as many. hints: (N, 3, H, W) in 0..1, what a ControlNet sees."""

    latents: torch.Tensor
    captions: tuple[str, ...]
    hints: torch.Tensor | None = None

    def batch(self, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, list[str]]:
        rows = rng.integers(len(self.captions), size=count)
        return self.latents[rows], [self.captions[row] for row in rows]


def lora(pipeline: Pipeline) -> Path:
    """An adapter of the UNet's attention that draws in two inks."""
    path = _folder() / "ink.safetensors"
    if path.exists():
        return path
    base = parameters(pipeline, "cpu")
    layers = [name for name in base if ".attn" in name and name.endswith(".weight") and base[name].ndim == 2]
    generator = torch.Generator().manual_seed(0)
    down = {name: torch.randn(RANK, base[name].shape[1], generator=generator) / RANK**0.5 for name in layers}
    up = {name: torch.zeros(base[name].shape[0], RANK) for name in layers}
    text = pipeline.networks.text_encoder.config
    assert isinstance(text, TextEncoderConfig)
    step = loss(
        text, pipeline.networks.unet_config, pipeline.schedule, _two_inks(pipeline),
        tokenize_with(pipeline.tokenizers[0]), batch=8,
    )  # fmt: skip

    def added() -> Parameters:
        return {**base, **{name: base[name] + up[name] @ down[name] for name in layers}}

    _learn(lambda rng: step(added(), rng), [*up.values(), *down.values()], steps=150, rate=3e-3)
    tensors: dict[str, Any] = {}
    for name in layers:
        stem = name.removesuffix(".weight")
        tensors[f"{stem}.lora_A.weight"] = down[name].detach().numpy()
        tensors[f"{stem}.lora_B.weight"] = up[name].detach().numpy()
    safetensors.write(path, tensors)
    return path


def word(pipeline: Pipeline) -> Path:
    """Vectors of a new word for the same two inks: nothing but these learns (Gal et al. 2022)."""
    path = _folder() / f"{WORD}.safetensors"
    if path.exists():
        return path
    base = parameters(pipeline, "cpu")
    text = pipeline.networks.text_encoder.config
    assert isinstance(text, TextEncoderConfig)
    rows = range(text.vocabulary, text.vocabulary + VECTORS)
    tokenizer = with_phrases(pipeline.tokenizers[0], {WORD: rows})
    vectors = base[TABLE].mean(0) + 0.01 * torch.randn(
        VECTORS, text.width, generator=torch.Generator().manual_seed(0)
    )
    lesson = _two_inks(pipeline)
    named = replace(lesson, captions=tuple(f"{caption}, {WORD}" for caption in lesson.captions))
    step = loss(
        replace(text, vocabulary=text.vocabulary + VECTORS), pipeline.networks.unet_config, pipeline.schedule,
        named, tokenize_with(tokenizer), batch=8,
    )  # fmt: skip

    def added() -> Parameters:
        return {**base, TABLE: torch.cat([base[TABLE], vectors])}

    _learn(lambda rng: step(added(), rng), [vectors], steps=150, rate=2e-2)
    safetensors.write(path, {"emb_params": vectors.detach().numpy()})
    return path


def edges(pipeline: Pipeline, steps: int = 900) -> Path:
    """A ControlNet that reads the edges which the preprocessor canny finds."""
    folder = _folder() / "edges"
    if folder.exists():
        return folder
    described = dict(pipeline.checkpoint.unet.config)
    described |= {"_class_name": "ControlNetModel", "conditioning_embedding_out_channels": [16, 32, 64, 96]}
    config = controlnet_config(described)
    base = parameters(pipeline, "cpu")
    own = create(controlnet_shapes(config), seed=0)
    for name, first in own.items():  # it begins as a copy of the way down that adds nothing
        reads = name.startswith("controlnet_cond_embedding.") and ".conv_out." not in name
        own[name] = base[f"unet.{name}"].clone() if f"unet.{name}" in base else first if reads else 0 * first
    lesson = _with_edges(pipeline)
    text = pipeline.networks.text_encoder.config
    assert isinstance(text, TextEncoderConfig) and lesson.hints is not None
    ops, picture, tokenize = TorchOps(), pipeline.networks.unet_config, tokenize_with(pipeline.tokenizers[0])
    alphas = torch.from_numpy(pipeline.schedule.alphas_cumprod.astype(np.float32))

    def step(rng: np.random.Generator) -> torch.Tensor:
        rows = rng.integers(len(lesson.captions), size=12)
        latent, hint = lesson.latents[rows], lesson.hints[rows]
        # Half of the captions are left out, so that what is drawn is read from the edges.
        ids, end = tokenize(["" if rng.random() < 0.5 else lesson.captions[row] for row in rows])
        timestep = rng.integers(pipeline.schedule.steps, size=len(rows))
        noise = torch.from_numpy(rng.standard_normal(tuple(latent.shape), np.float32))
        share = alphas[timestep].view(-1, 1, 1, 1)
        noisy = share.sqrt() * latent + (1 - share).sqrt() * noise
        target = share.sqrt() * noise - (1 - share).sqrt() * latent
        time = torch.from_numpy(embed_timestep(picture, timestep))
        with torch.autocast("cpu", torch.bfloat16), attention_for("cpu"):
            with torch.no_grad():
                told = torch.from_numpy(ids), torch.from_numpy(end)
                context, _ = text_encoder(ops, text, View(base) / "text_encoder", *told)
            seen = embed_hint(ops, config, View(own), hint)
            residuals = controlnet(ops, config, View(own), noisy, time, context, seen)
            guess = unet(ops, picture, View(base) / "unet", noisy, time, context, residuals=residuals)
        return (guess.float() - target).square().mean()

    _learn(step, list(own.values()), steps=steps, rate=4e-4)
    write_component(folder, described, {name: value.detach().numpy() for name, value in own.items()})
    return folder


# --- lessons ------------------------------------------------------------------------------------------------


def _two_inks(pipeline: Pipeline) -> Lesson:
    """The starter's own pictures in dark blue on cream."""
    captions = [f"{thing}, {style}" for thing in THINGS for style in STYLES[:2]]
    images = [two_inks(image) for image in _drawn(pipeline, captions)]
    return Lesson(_encoded(pipeline, images), tuple(captions))


def two_inks(image: Image.Image) -> Image.Image:
    return ImageOps.colorize(ImageOps.autocontrast(image.convert("L")), (24, 28, 92), (252, 236, 200))


def _with_edges(pipeline: Pipeline) -> Lesson:
    captions = [f"{thing}, {style}" for thing in THINGS for style in STYLES] * 3
    images = _drawn(pipeline, captions)
    hints = [np.asarray(preprocessed(image, "canny").convert("RGB"), np.float32) / 255 for image in images]
    seen = torch.from_numpy(np.stack(hints).transpose(0, 3, 1, 2).copy())
    return Lesson(_encoded(pipeline, images), tuple(captions), seen)


def _drawn(pipeline: Pipeline, captions: Sequence[str]) -> list[Image.Image]:
    return [
        pipeline.txt2img(caption, seed=1000 + seed, steps=8, cfg_scale=4).images[0]
        for seed, caption in enumerate(captions)
    ]


def _encoded(pipeline: Pipeline, images: Sequence[Image.Image]) -> torch.Tensor:
    latents = [pipeline.networks.encode(from_image(image)[None])[0] for image in images]
    return torch.from_numpy(np.stack(latents))


def _learn(
    step: Callable[[np.random.Generator], torch.Tensor],
    learned: Sequence[torch.Tensor],
    *,
    steps: int,
    rate: float,
) -> None:
    """Adam with a short warm-up, and a rate that falls to zero."""
    for each in learned:
        each.requires_grad_(True)
    optimizer, rng = torch.optim.Adam(list(learned), lr=rate), np.random.default_rng(0)
    mean = 0.0
    for number in trange(steps, mininterval=10):
        optimizer.param_groups[0]["lr"] = rate * min(1, (number + 1) / 20) * (1 - number / steps)
        optimizer.zero_grad()
        error = step(rng)
        error.backward()
        optimizer.step()
        mean = error.item() if number == 0 else 0.98 * mean + 0.02 * error.item()
        if number % 50 == 0:
            print(f"step {number}: {mean:.4f}", flush=True)


def _folder() -> Path:
    folder = cache_dir() / "guide"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


LESSONS: Mapping[str, Callable[[Pipeline], Path]] = {"lora": lora, "word": word, "edges": edges}
