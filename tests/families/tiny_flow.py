"""A made-up family, added like any new family: this file and one registration.

A transformer on patches of 2 x 2 latent pixels with 16 channels, trained by flow matching, and a text encoder
with its own tokenizer, which reads letters. A checkpoint is one file with its own tensor names.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pochade.checkpoints import safetensors
from pochade.checkpoints.folder import Checkpoint, Component
from pochade.checkpoints.keymaps import PrefixView
from pochade.checkpoints.overrides import Overrides
from pochade.checkpoints.readers import OpenedFile, Reader
from pochade.checkpoints.single_file import read_single_file
from pochade.diffusion.parametrization import Coefficients
from pochade.diffusion.schedule import NoiseSchedule
from pochade.errors import InvalidCheckpoint, InvalidRequest
from pochade.families.family import (
    Architecture,
    Conditioned,
    Conditioning,
    Configs,
    Denoiser,
    Encoder,
    Family,
    Inputs,
    Traits,
)
from pochade.loading.parameter_shapes import architecture_shapes, autoencoder_shapes
from pochade.models.embedding import sinusoidal
from pochade.models.layers import join_heads, layer_norm, linear, split_heads
from pochade.ops import Ops, Tensor
from pochade.request import Defaults
from pochade.weights import View

Floats = NDArray[np.float32]

PATCH, HEADS, TIME_WIDTH = 2, 2, 16
LETTERS, LENGTH = " abcdefghijklmnopqrstuvwxyz", 24


# --- networks ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """table: rows and columns of the stored positions."""

    channels: int
    width: int
    depth: int
    context_width: int
    table: int


@dataclass(frozen=True, kw_only=True)
class LettersConfig:
    letters: int
    width: int


def flow_transformer(
    ops: Ops, config: FlowConfig, w: View, x: Tensor, time: Tensor, context: Tensor, pooled: Tensor
) -> Tensor:
    """x: (B, C, h, w), time: (B, TIME_WIDTH), context: (B, T, D), pooled: (B, D) -> (B, C, h, w)."""
    batch, channels, height, width = ops.shape(x)
    rows, columns = height // PATCH, width // PATCH
    x = ops.reshape(x, (batch, channels, rows, PATCH, columns, PATCH))
    x = ops.reshape(ops.transpose(x, (0, 2, 4, 1, 3, 5)), (batch, rows * columns, channels * PATCH**2))
    x = linear(ops, w / "x_embedder", x, config.width) + _positions(ops, config, w, rows, columns)
    moment = linear(ops, w / "t_embedder", time, config.width)
    moment = ops.silu(moment + linear(ops, w / "y_embedder", pooled, config.width))
    text = linear(ops, w / "context_embedder", context, config.width)
    for number in range(config.depth):
        block = w / f"blocks.{number}"
        shift = ops.reshape(linear(ops, block / "modulation", moment, config.width), (batch, 1, config.width))
        x = x + shift
        both = layer_norm(ops, block / "norm", ops.concat([text, x], axis=1))
        query, key, value = (
            split_heads(ops, linear(ops, block / name, both, config.width), HEADS)
            for name in ("to_q", "to_k", "to_v")
        )
        found = linear(ops, block / "to_out", join_heads(ops, ops.attention(query, key, value)), config.width)
        tokens = ops.shape(found)[1]
        x = x + ops.narrow(found, 1, tokens - rows * columns, tokens)
    x = linear(ops, w / "final_layer", x, channels * PATCH**2)
    x = ops.reshape(x, (batch, rows, columns, channels, PATCH, PATCH))
    return ops.reshape(ops.transpose(x, (0, 3, 1, 4, 2, 5)), (batch, channels, height, width))


def _positions(ops: Ops, config: FlowConfig, w: View, rows: int, columns: int) -> Tensor:
    side = config.table
    table = ops.reshape(w("pos_embed", (side**2, config.width)), (1, side, side, config.width))
    for axis, count in ((1, rows), (2, columns)):
        start = (side - count) // 2
        table = ops.narrow(table, axis, start, start + count)
    return ops.reshape(table, (1, rows * columns, config.width))


def letters_encoder(ops: Ops, config: LettersConfig, w: View, ids: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T) -> (B, T, width), and one vector for all of it, (B, width)."""
    x = ops.embedding(ids, w("table", (config.letters, config.width)))
    heads = split_heads(ops, x, 1)
    x = x + linear(ops, w / "mix", join_heads(ops, ops.attention(heads, heads, heads)), config.width)
    x = layer_norm(ops, w / "norm", x)
    batch, tokens, width = ops.shape(x)
    return x, linear(ops, w / "pool", ops.reshape(x, (batch, tokens * width)), width)


def _flow_inputs(config: FlowConfig) -> Inputs:
    return {
        "x": ((1, config.channels, PATCH, PATCH), "f32"),
        "time": ((1, TIME_WIDTH), "f32"),
        "context": ((1, LENGTH, config.context_width), "f32"),
        "pooled": ((1, config.context_width), "f32"),
    }


def _letters_inputs(config: LettersConfig) -> Inputs:
    return {"ids": ((1, LENGTH), "i64")}


TRANSFORMER = Denoiser(config=lambda json: FlowConfig(**json), function=flow_transformer, inputs=_flow_inputs)
ENCODER = Architecture(
    config=lambda json: LettersConfig(**json), function=letters_encoder, inputs=_letters_inputs
)


def _traits(configs: Configs) -> Traits:
    factor = configs.autoencoder.factor
    return Traits(
        side=64,
        multiple=PATCH * factor,
        channels=configs.denoiser.channels,
        activation=configs.denoiser.width,
    )


def _check(configs: Configs, tokenizers: Sequence[Any], path: str) -> None:
    if configs.denoiser.channels != configs.autoencoder.latent_channels:
        raise InvalidCheckpoint(f"'{path}': its transformer and its autoencoder do not go together")


# --- prompts ----------------------------------------------------------------------------------------------


def letters(prompt: str) -> list[int]:
    return [LETTERS.index(letter) for letter in prompt.lower() if letter in LETTERS]


def _length(prompt: str, tokenizers: Sequence[Any], emphasis: str) -> int:
    if len(letters(prompt)) > LENGTH:
        raise InvalidRequest(f"the prompt has {len(letters(prompt))} letters; at most {LENGTH} are read")
    return LENGTH


def encode(
    encoders: Sequence[Encoder],
    tokenizers: Sequence[Callable[[str], list[int]]],
    prompts: Sequence[str],
    clip_skip: int,
    emphasis: str,
) -> list[Conditioning]:
    for prompt in prompts:
        _length(prompt, tokenizers, emphasis)
    result = []
    for prompt in prompts:
        found = tokenizers[0](prompt)
        ids = np.array([found + [0] * (LENGTH - len(found))], np.int64)
        context, pooled = encoders[0].run(letters_encoder, ids=ids)
        result.append(Conditioning(context, pooled, len(found), 1))
    return result


def _constant_inputs(configs: Configs, rows: Conditioned) -> dict[str, Floats]:
    return {
        name: np.concatenate([getattr(each, name) for each in rows.conditionings])
        for name in ("context", "pooled")
    }


def _step_inputs(config: FlowConfig, timestep: float, rows: int, cfg_scale: float) -> dict[str, Floats]:
    return {"time": sinusoidal(np.full(rows, timestep, np.float32), TIME_WIDTH)}


# --- training: x = (1 - s) data + s noise, the network says noise - data --------------------------------


def _schedule(json: Mapping[str, Any]) -> NoiseSchedule:
    """The levels s, shifted as for pictures of this size, as noise per unit of data: s / (1 - s)."""
    t, shift = np.arange(1, 1001) / 1000, float(json["shift"])
    s = np.minimum(shift * t / (1 + (shift - 1) * t), 1 - 2.0**-12)
    return NoiseSchedule(1 / (1 + (s / (1 - s)) ** 2))


def flow(schedule: NoiseSchedule, sigma: float) -> Coefficients:
    """data = x_s - s v, where s = sigma / (1 + sigma) and x_s = (1 - s) (data + sigma noise)."""
    s = sigma / (1 + sigma)
    return Coefficients(1 - s, -s, 1 - s, 1000 * s)


# --- files ------------------------------------------------------------------------------------------------


def read_file(
    opened: OpenedFile,
    *,
    vae: Path | str | Component | None,
    overrides: Overrides,
    prediction: str | None,
) -> Checkpoint:
    """Configurations come from the shapes of the tensors."""

    def component(name: str, prefix: str, config: Mapping[str, Any]) -> Component:
        tensors = PrefixView(opened.tensors, prefix)
        return Component(
            name=name,
            config=config,
            tensors=tensors,
            files=(opened.path,),
            fingerprint=f"{opened.stamp} {name}",
        )

    def shape(name: str) -> tuple[int, ...]:
        return opened.tensors[name].shape

    flow_config = {
        "channels": shape("flow.final_layer.bias")[0] // PATCH**2,
        "width": shape("flow.pos_embed")[1],
        "depth": len({name.split(".")[2] for name in opened.tensors if name.startswith("flow.blocks.")}),
        "context_width": shape("flow.context_embedder.weight")[1],
        "table": round(shape("flow.pos_embed")[0] ** 0.5),
    }
    letters_config = {"letters": shape("letters.table")[0], "width": shape("letters.table")[1]}
    return Checkpoint(
        name=opened.path.stem,
        family=LABEL,
        model_index={},
        unet=component("transformer", "flow.", flow_config),
        vae=component("vae", "vae.", AUTOENCODER),
        text_encoders=(component("text_encoder", "letters.", letters_config),),
        scheduler={"shift": 3.0},
        tokenizers=(None,),
        prediction_reason="its family does",
    )


def read_folder(
    folder: Path, index: Mapping[str, Any], variant: str | None, prediction: str | None
) -> Checkpoint:
    """A folder that holds the same file."""
    return replace(read_single_file(folder / "model.safetensors"), name=folder.name, model_index=index)


LABEL = "Tiny flow"
AUTOENCODER = {
    "latent_channels": 16,
    "block_out_channels": [8, 8, 8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "norm_num_groups": 4,
    "scaling_factor": 1.5,
    "shift_factor": 0.06,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
TINY_FLOW = Family(
    label=LABEL,
    latents=LABEL,
    reader=Reader(
        label=LABEL,
        side=64,
        marks=("flow.blocks.", "letters.table"),
        read_file=read_file,
        pipelines=("TinyFlowPipeline",),
        read_folder=read_folder,
    ),
    defaults=Defaults(steps=6, cfg_scale=3.0, sampler="Euler", schedule="Simple"),
    denoiser=TRANSFORMER,
    text_encoders=(ENCODER,),
    traits=_traits,
    tokenizers=lambda checkpoint: [letters],
    check=_check,
    encode=encode,
    length=_length,
    constant_inputs=_constant_inputs,
    step_inputs=_step_inputs,
    schedule=_schedule,
    parametrization=lambda json: flow,
    starting_scale=lambda sigma: 1 + sigma,
)


def write_model(path: Path) -> Path:
    """A model of random numbers in one file."""
    config = FlowConfig(channels=16, width=16, depth=2, context_width=12, table=12)
    parts = {
        "flow.": architecture_shapes(TRANSFORMER, config),
        "letters.": architecture_shapes(ENCODER, LettersConfig(letters=len(LETTERS), width=12)),
        "vae.": autoencoder_shapes(TINY_FLOW.autoencoder(AUTOENCODER)),
    }
    rng = np.random.default_rng(7)
    tensors = {}
    for prefix, shapes in parts.items():
        for name, shape in shapes.items():
            numbers = rng.standard_normal(shape).astype(np.float32)
            gain = 1.0 if len(shape) > 1 and prefix != "vae." else 0.5
            if name in ("y_embedder.weight", "blocks.0.modulation.weight", "blocks.1.modulation.weight"):
                gain = 6.0  # so that the text has an effect
            tensors[prefix + name] = gain * numbers / np.sqrt(np.prod(shape[1:]) or 1).astype(np.float32)
    safetensors.write(path, tensors)
    return path
