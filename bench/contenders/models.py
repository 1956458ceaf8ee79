"""Whole models in real shapes with random weights, as diffusers folders: nothing needs to be downloaded."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pochade.checkpoints.detect import describe_scheduler
from pochade.checkpoints.folder import Checkpoint, Component
from pochade.checkpoints.grids import grids_path
from pochade.checkpoints.keymaps import LazyTensors
from pochade.configs.read_json import autoencoder_config, text_encoder_config, unet_config
from pochade.loading.int8_networks import keep_grids
from pochade.loading.parameter_shapes import autoencoder_shapes, text_encoder_shapes, unet_shapes
from pochade.ops import Shape
from pochade.pipeline.calibrate import PROMPTS, calibrate
from pochade.pipeline.loader import load
from pochade.settings import starter_folder
from pochade.tools.convert import convert

DOWN, UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
UNET: Mapping[str, Any] = {
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": [DOWN, DOWN, DOWN, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", UP, UP, UP],
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "sample_size": 64,
}
UNET_XL: Mapping[str, Any] = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", DOWN, DOWN],
    "up_block_types": [UP, UP, "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
}
AUTOENCODER: Mapping[str, Any] = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}
TEXT: Mapping[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
}
TEXT_G: Mapping[str, Any] = {
    **TEXT,
    "architectures": ["CLIPTextModelWithProjection"],
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
WIDTHS = 0.02
"""As small as trained weights are, so that activations neither vanish nor overflow."""


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """A model. side: of its pictures, px. narrow: the published type, "f16" or None for f32."""

    name: str
    side: int
    unet: Mapping[str, Any] | None = None
    second: Mapping[str, Any] | None = None
    narrow: str | None = None


SHAPES = {
    "starter": Shapes(name="starter", side=128),
    "sd15": Shapes(name="sd15", side=512, unet=UNET),
    "xl": Shapes(name="xl", side=1024, unet=UNET_XL, second=TEXT_G, narrow="f16"),
}


def make_model(shapes: Shapes, folder: Path) -> Path:
    """The folder of the model, created in `folder` if it does not exist; the starter stays in the package."""
    if shapes.unet is None:
        return starter_folder()
    made = folder / shapes.name / "model"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        print(f"making {made}; this happens once", flush=True)
        for _ in convert(random_model(shapes), made, shapes.narrow):
            pass
    return made


def fit_grids(model: Path) -> None:
    """Fit 8-bit grids to a model by one drawing, and store them next to it, the first time.

    The timed starts are then like all but a model's very first.
    """
    beside = grids_path(model)
    if not beside.exists():
        print(f"making {beside}; this happens once", flush=True)
        pipeline = load(model, device="cpu", precision="f32")
        *_, done = calibrate(pipeline, PROMPTS[:1])
        assert done.tables is not None
        keep_grids(beside, done.tables, pipeline.networks)


def remove_model(shapes: Shapes, folder: Path) -> None:
    """Delete the folder that was created."""
    shutil.rmtree(folder / shapes.name, ignore_errors=True)


def random_model(shapes: Shapes) -> Checkpoint:
    """Random numbers as small as trained weights, created one tensor at a time."""

    def component(name: str, config: Mapping[str, Any], tensors: Mapping[str, Shape]) -> Component:
        makers = {key: tensor_maker(key, shape) for key, shape in tensors.items()}
        return Component(
            name=name,
            config=config,
            tensors=LazyTensors(makers),
            files=(Path("random"),),
            fingerprint="random",
        )

    def text(name: str, config: Mapping[str, Any]) -> Component:
        return component(name, config, text_encoder_shapes(text_encoder_config(config)))

    assert shapes.unet is not None
    second = [] if shapes.second is None else [text("text_encoder_2", shapes.second)]
    texts = (text("text_encoder", TEXT), *second)
    return Checkpoint(
        name="random",
        family="SDXL" if shapes.second else "SD 1.x",
        model_index={"_class_name": "StableDiffusion" + ("XL" if shapes.second else "") + "Pipeline"},
        unet=component("unet", shapes.unet, unet_shapes(unet_config(shapes.unet))),
        vae=component("vae", AUTOENCODER, autoencoder_shapes(autoencoder_config(AUTOENCODER))),
        text_encoders=texts,
        scheduler=describe_scheduler("epsilon", zero_snr=False),
        tokenizers=(None,) * len(texts),
        pad_ids=(49407,) if shapes.second is None else (49407, 0),
    )


def tensor_maker(name: str, shape: Shape) -> Callable[[], NDArray[np.float32]]:
    """A function that creates a tensor of a model from random numbers."""
    return partial(_numbers, sum(name.encode()), shape)


def _numbers(seed: int, shape: Shape) -> NDArray[np.float32]:
    numbers = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return np.float32(WIDTHS) * numbers if len(shape) > 1 else 1 + np.float32(0.1) * numbers
