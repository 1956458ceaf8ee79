"""Key maps for single files, whose names are those of the latent diffusion code of 2022.

That code numbers all down blocks and all up blocks of the UNet consecutively, so a block's number depends on
the number of layers in each level. A `UNetLayout` holds these, and the rules are made from it. If a file
leaves numbers out (pruned models keep the numbers of the original), the existing numbers are read and
consecutive ones are written.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from pochade.checkpoints.keymaps import (
    DROPPED_FROM_TEXT_ENCODERS,
    LINEAR_FROM_CONVOLUTION,
    TEXT_ENCODER,
    Change,
    Fused,
    KeyMap,
    Rule,
)

Array = npt.NDArray[Any]

RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
UNET_ENDS: tuple[Rule, ...] = (
    Rule("time_embed.0.{}", "time_embedding.linear_1.{}"),
    Rule("time_embed.2.{}", "time_embedding.linear_2.{}"),
    Rule("time_embed.cond_proj.{}", "time_embedding.cond_proj.{}"),  # LCM
    Rule("label_emb.0.0.{}", "add_embedding.linear_1.{}"),  # XL
    Rule("label_emb.0.2.{}", "add_embedding.linear_2.{}"),
    Rule("input_blocks.0.0.{}", "conv_in.{}"),
    Rule("out.0.{}", "conv_norm_out.{}"),
    Rule("out.2.{}", "conv_out.{}"),
)

MAX_TINY_LAYERS = 64
"""An upper bound on the number of layers of a tiny decoder."""

CLIP: KeyMap = (
    # Used only for comparing pictures with texts; some files of XL's first encoder include it.
    Rule("text_projection", None),
    Rule("text_projection.{}", None),
    *TEXT_ENCODER,
)
"""The text encoder of SD 1.x and the first one of XL, which have transformers' names."""


@dataclass(frozen=True)
class UNetLayout:
    """The layers of a UNet.

    down, up: for each level in order of evaluation and each of its residual blocks, whether a transformer
        follows. middle: the number of parts of the middle block, 3, 1 or 0.
    down_numbers, up_numbers: the numbers of the file's blocks without the first convolution's 0; empty means
        consecutive.
    """

    down: tuple[tuple[bool, ...], ...]
    middle: int
    up: tuple[tuple[bool, ...], ...]
    down_numbers: tuple[int, ...] = ()
    up_numbers: tuple[int, ...] = ()


def file_layout(names: Iterable[str]) -> UNetLayout:
    """Detect the layout of a UNet from its names in a single file, without their prefix."""
    names = set(names)
    down, down_numbers = _file_levels(names, "input_blocks")
    up, up_numbers = _file_levels(names, "output_blocks")
    middle = {name.split(".")[1] for name in names if name.startswith("middle_block.")}
    return UNetLayout(down, len(middle), up, down_numbers, up_numbers)


def canonical_layout(names: Iterable[str]) -> UNetLayout:
    """Detect the layout of a UNet from its canonical names."""
    names = set(names)
    middle = {".".join(name.split(".")[:3]) for name in names if name.startswith("mid_block.")}
    return UNetLayout(_levels(names, "down_blocks"), len(middle), _levels(names, "up_blocks"))


def unet_rules(layout: UNetLayout) -> KeyMap:
    """Return the key map of a UNet, from the names of a single file after `model.diffusion_model.`."""
    rules = list(UNET_ENDS)
    numbers = _numbers(layout.down_numbers, first=1)
    for level, layers in enumerate(layout.down):
        for i, attends in enumerate(layers):
            number = next(numbers)
            rules += _residual(f"input_blocks.{number}.0", f"down_blocks.{level}.resnets.{i}")
            if attends:
                rules += [Rule(f"input_blocks.{number}.1.{{*}}", f"down_blocks.{level}.attentions.{i}.{{*}}")]
        if level < len(layout.down) - 1:
            number = next(numbers)
            rules += [
                Rule(f"input_blocks.{number}.0.op.{{}}", f"down_blocks.{level}.downsamplers.0.conv.{{}}")
            ]
    rules += _residual("middle_block.0", "mid_block.resnets.0")
    rules += [Rule("middle_block.1.{*}", "mid_block.attentions.0.{*}")]
    rules += _residual("middle_block.2", "mid_block.resnets.1")
    numbers = _numbers(layout.up_numbers, first=0)
    for level, layers in enumerate(layout.up):
        for i, attends in enumerate(layers):
            number = next(numbers)
            rules += _residual(f"output_blocks.{number}.0", f"up_blocks.{level}.resnets.{i}")
            if i == len(layers) - 1 and level < len(layout.up) - 1:
                part = 1 + int(attends)
                rules += [
                    Rule(
                        f"output_blocks.{number}.{part}.conv.{{}}",
                        f"up_blocks.{level}.upsamplers.0.conv.{{}}",
                    )
                ]
            if attends:
                rules += [Rule(f"output_blocks.{number}.1.{{*}}", f"up_blocks.{level}.attentions.{i}.{{*}}")]
    return tuple(rules)


def controlnet_rules(layout: UNetLayout, hints: int) -> KeyMap:
    """Return the key map of a ControlNet, from the names of a single file after `control_model.`.

    layout: without up blocks. hints: number of convolutions in the hint network; the file also counts the
    activations between them.
    """
    embedding = "controlnet_cond_embedding"
    between = [
        Rule(f"input_hint_block.{2 * i + 2}.{{}}", f"{embedding}.blocks.{i}.{{}}") for i in range(hints - 2)
    ]
    return (
        *unet_rules(layout),
        Rule("input_hint_block.0.{}", f"{embedding}.conv_in.{{}}"),
        *between,
        Rule(f"input_hint_block.{2 * hints - 2}.{{}}", f"{embedding}.conv_out.{{}}"),
        Rule("zero_convs.{}.0.{}", "controlnet_down_blocks.{}.{}"),
        Rule("middle_block_out.0.{}", "controlnet_mid_block.{}"),
    )


def tiny_autoencoder_rules(coder: str) -> KeyMap:
    """Return the key map of one half of TAESD in its author's files. coder: "encoder" or "decoder".

    The decoder's first number is the clamping of latents, which diffusers does not count.
    """
    if coder == "encoder":
        return (Rule("{*}", "encoder.layers.{*}"),)
    return tuple(Rule(f"{i + 1}.{{*}}", f"decoder.layers.{i}.{{*}}") for i in range(MAX_TINY_LAYERS))


def autoencoder_rules(levels: int) -> KeyMap:
    """Return the key map of an autoencoder with so many levels, from the names after `first_stage_model.`.

    The file numbers the up blocks from the largest resolution to the smallest; canonical names follow the
    order of evaluation.
    """
    rules: list[Rule] = [Rule("loss.{*}", None), Rule("model_ema.{*}", None)]
    for coder in ("encoder", "decoder"):
        middle = f"{coder}.mid_block"
        for i in (0, 1):
            rules += [
                Rule(
                    f"{coder}.mid.block_{i + 1}.nin_shortcut.{{}}", f"{middle}.resnets.{i}.conv_shortcut.{{}}"
                ),
                Rule(f"{coder}.mid.block_{i + 1}.{{*}}", f"{middle}.resnets.{i}.{{*}}"),
            ]
        attention = f"{middle}.attentions.0"
        rules += [Rule(f"{coder}.mid.attn_1.norm.{{}}", f"{attention}.group_norm.{{}}")]
        for old, new in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")):
            rules += [
                Rule(f"{coder}.mid.attn_1.{old}.{{}}", f"{attention}.{new}.{{}}", LINEAR_FROM_CONVOLUTION)
            ]
        rules += [
            Rule(f"{coder}.conv_in.{{}}", f"{coder}.conv_in.{{}}"),
            Rule(f"{coder}.norm_out.{{}}", f"{coder}.conv_norm_out.{{}}"),
            Rule(f"{coder}.conv_out.{{}}", f"{coder}.conv_out.{{}}"),
        ]
    for level in range(levels):
        down, up = f"encoder.down_blocks.{level}", f"decoder.up_blocks.{levels - 1 - level}"
        for old, new in ((f"encoder.down.{level}", down), (f"decoder.up.{level}", up)):
            rules += [
                Rule(f"{old}.block.{{}}.nin_shortcut.{{}}", f"{new}.resnets.{{}}.conv_shortcut.{{}}"),
                Rule(f"{old}.block.{{}}.{{*}}", f"{new}.resnets.{{}}.{{*}}"),
            ]
        rules += [
            Rule(f"encoder.down.{level}.downsample.conv.{{}}", f"{down}.downsamplers.0.conv.{{}}"),
            Rule(f"decoder.up.{level}.upsample.conv.{{}}", f"{up}.upsamplers.0.conv.{{}}"),
        ]
    rules += [Rule("quant_conv.{}", "quant_conv.{}"), Rule("post_quant_conv.{}", "post_quant_conv.{}")]
    return tuple(rules)


def open_clip_rules(
    unused_layers: Iterable[int] = (), *, projection: bool, width: int | None = None
) -> KeyMap:
    """Return the key map of an OpenCLIP text encoder, which fuses queries, keys and values in one matrix.

    unused_layers: dropped; SD 2.x reads the layer before the last. projection: whether the pooled vector is
    projected, which only XL needs. width: of the encoder, for reading: it determines how a non-square
    projection was stored. For a square one the name decides: OpenCLIP's `text_projection` is (width,
    projected), transformers' `text_projection.weight` (projected, width).
    """
    layer, new_name = "transformer.resblocks.{}", "encoder.layers.{}"
    heads = [f"{new_name}.self_attn.{name}_proj" for name in "qkv"]
    projected = "text_projection.weight" if projection else None
    return (
        *DROPPED_FROM_TEXT_ENCODERS,
        *(Rule(f"transformer.resblocks.{i}.{{*}}", None) for i in unused_layers),
        Rule("token_embedding.weight", "embeddings.token_embedding.weight"),
        Rule("positional_embedding", "embeddings.position_embedding.weight"),
        Rule("ln_final.{}", "final_layer_norm.{}"),
        Rule("text_projection", projected, Change(partial(_projection, width, True), np.transpose)),
        Rule("text_projection.weight", projected, Change(partial(_projection, width, False), _identity)),
        Rule(
            "transformer.text_projection.weight",
            projected,
            Change(partial(_projection, width, False), _identity),
        ),
        Fused(f"{layer}.attn.in_proj_weight", tuple(f"{head}.weight" for head in heads)),
        Fused(f"{layer}.attn.in_proj_bias", tuple(f"{head}.bias" for head in heads)),
        Rule(f"{layer}.attn.out_proj.{{}}", f"{new_name}.self_attn.out_proj.{{}}"),
        Rule(f"{layer}.ln_1.{{}}", f"{new_name}.layer_norm1.{{}}"),
        Rule(f"{layer}.ln_2.{{}}", f"{new_name}.layer_norm2.{{}}"),
        Rule(f"{layer}.mlp.c_fc.{{}}", f"{new_name}.mlp.fc1.{{}}"),
        Rule(f"{layer}.mlp.c_proj.{{}}", f"{new_name}.mlp.fc2.{{}}"),
    )


# --- averaged weights ---------------------------------------------------------------------------------

BLOCK = r"(?P<row>input_blocks|output_blocks)(?P<block>\d+)(?P<part>\d)|(?P<middle>middle_block)(?P<at>\d)"
PIECES = (
    "diffusion_model", "time_embed", "label_emb", "in_layers", "emb_layers", "out_layers", "skip_connection",
    "transformer_blocks", "attn1", "attn2", "norm1", "norm2", "norm3", "norm", "proj_in", "proj_out",
    "to_out", "to_q", "to_k", "to_v", "ff", "net", "proj", "cond_proj", "op", "conv", "out", "weight", "bias",
)  # fmt: skip
PIECE = re.compile("|".join([BLOCK, *sorted(PIECES, key=len, reverse=True), r"\d+"]))


def with_dots(name: str) -> str | None:
    """Return the name of a UNet's tensor from that of its moving average, which is stored without dots.

    "diffusion_modelinput_blocks10in_layers0weight" -> "diffusion_model.input_blocks.1.0.in_layers.0.weight";
    None if the name cannot be parsed.
    """
    parts: list[str] = []
    position = 0
    while position < len(name):
        found = PIECE.match(name, position)
        if found is None:
            return None
        if found["row"]:
            parts += [found["row"], found["block"], found["part"]]
        elif found["middle"]:
            parts += [found["middle"], found["at"]]
        elif found[0].isdecimal() and parts[-1] == "label_emb":
            parts += list(found[0])  # label_emb.0.2
        else:
            parts.append(found[0])
        position = found.end()
    return ".".join(parts)


# --- inside -------------------------------------------------------------------------------------------


def _projection(width: int | None, transposed: bool, stored: Array) -> Array:
    """Return the projection as (projected, width). transposed: whether its name implies (width,
    projected)."""
    if stored.ndim == 2 and width is not None and stored.shape.count(width) == 1:
        transposed = stored.shape[0] == width
    return stored.T if transposed else stored


def _identity(tensor: Array) -> Array:
    return tensor


def _residual(old: str, new: str) -> list[Rule]:
    return [
        Rule(f"{old}.{old_name}.{{}}", f"{new}.{new_name}.{{}}") for old_name, new_name in RESIDUAL.items()
    ]


def _numbers(given: Sequence[int], first: int) -> Iterator[int]:
    """The numbers of blocks. If a file lacks some, the missing tensors are reported later."""
    yield from given
    number = max((*given, first - 1)) + 1
    while True:
        yield number
        number += 1


def _file_levels(names: set[str], row: str) -> tuple[tuple[tuple[bool, ...], ...], tuple[int, ...]]:
    """Split the numbered down or up blocks into levels: a level ends where the resolution changes."""
    numbers = sorted({int(name.split(".")[1]) for name in names if _is_numbered(name, row)})
    levels: list[list[bool]] = [[]]
    taken = []
    for number in numbers:
        if f"{row}.{number}.0.in_layers.2.weight" in names:
            levels[-1].append(f"{row}.{number}.1.norm.weight" in names)
        elif f"{row}.{number}.0.op.weight" not in names:
            continue  # the first convolution, or an unknown tensor, which is reported later
        if any(f"{row}.{number}.{part}.weight" in names for part in ("0.op", "1.conv", "2.conv")):
            levels.append([])
        taken.append(number)
    return tuple(map(tuple, levels)), tuple(taken)


def _is_numbered(name: str, row: str) -> bool:
    parts = name.split(".")
    return parts[0] == row and len(parts) > 2 and parts[1].isdecimal() and len(parts[1]) < 6


def _levels(names: set[str], way: str) -> tuple[tuple[bool, ...], ...]:
    levels: list[tuple[bool, ...]] = []
    while f"{way}.{len(levels)}.resnets.0.conv1.weight" in names:
        level = f"{way}.{len(levels)}"
        layers: list[bool] = []
        while f"{level}.resnets.{len(layers)}.conv1.weight" in names:
            layers.append(f"{level}.attentions.{len(layers)}.norm.weight" in names)
        levels.append(tuple(layers))
    return tuple(levels)
