"""The names of the latent diffusion code of 2022, which adapters for XL and some others are written in.

That code numbers the blocks of the UNet in one row on the way down and in one on the way up.
"""

from collections.abc import Iterable, Mapping

ENDS: Mapping[str, str] = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "time_embedding.cond_proj": "time_embed.cond_proj",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
RESIDUAL: Mapping[str, str] = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OPEN_CLIP: Mapping[str, str] = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
FUSED, HEADS = "attn.in_proj", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


def unet_names(modules: Iterable[str]) -> dict[str, str]:
    """Our name of each layer of a UNet -> its name in that code."""
    modules = list(modules)
    blocks = {**ENDS, **_blocks(modules)}
    named = {}
    for module in modules:
        for block in _beginnings(module):
            if block in blocks:
                rest = module[len(block) :].lstrip(".")
                named[module] = ".".join(part for part in (blocks[block], RESIDUAL.get(rest, rest)) if part)
                break
    return named


def open_clip_names(modules: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """OpenCLIP's name of each layer of a text encoder -> ours: three for the matrix that it keeps fused."""
    named: dict[str, tuple[str, ...]] = {}
    for module in modules:
        parts = module.split(".", 3)
        if parts[:2] == ["encoder", "layers"] and len(parts) == 4:
            layer = f"transformer.resblocks.{parts[2]}"
            if parts[3] in OPEN_CLIP:
                named[f"{layer}.{OPEN_CLIP[parts[3]]}"] = (module,)
            elif parts[3] in HEADS:
                named[f"{layer}.{FUSED}"] = tuple(f"encoder.layers.{parts[2]}.{head}" for head in HEADS)
        elif module == "final_layer_norm":
            named["ln_final"] = (module,)
    return named


def _blocks(modules: Iterable[str]) -> dict[str, str]:
    """Our blocks of the two ways -> theirs, counted through."""
    known = {block for module in modules for block in _beginnings(module)}
    named, number = {}, 1
    for level in _counted(known, "down_blocks"):
        for layer in _counted(known, f"{level}.resnets"):
            named[layer] = f"input_blocks.{number}.0"
            named[layer.replace("resnets", "attentions")] = f"input_blocks.{number}.1"
            number += 1
        named[f"{level}.downsamplers.0.conv"] = f"input_blocks.{number}.0.op"
        number += 1
    number = 0
    for level in _counted(known, "up_blocks"):
        for layer in _counted(known, f"{level}.resnets"):
            attention = layer.replace("resnets", "attentions")
            named[layer] = f"output_blocks.{number}.0"
            named[attention] = f"output_blocks.{number}.1"
            number += 1
            named[f"{level}.upsamplers.0.conv"] = (
                f"output_blocks.{number - 1}.{1 + (attention in known)}.conv"
            )
    return named


def _counted(known: set[str], row: str) -> list[str]:
    found: list[str] = []
    while f"{row}.{len(found)}" in known:
        found.append(f"{row}.{len(found)}")
    return found


def _beginnings(module: str) -> list[str]:
    """The name and all names that it lies below, the longest first."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
