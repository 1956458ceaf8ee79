"""Tiny random checkpoints in one file, written without Pochade's key maps.

The models follow the families' rules for what tensors do not tell (heads, groups, CLIP's vocabulary), so that
nothing but the file is needed to read them. The names are made by arithmetic on those of diffusers.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from diffusers import StableDiffusionInpaintPipeline as InpaintPipeline
from diffusers import StableDiffusionPipeline as PlainPipeline
from diffusers import StableDiffusionXLImg2ImgPipeline as RefinerPipeline
from diffusers import StableDiffusionXLPipeline as XLPipeline
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pochade.prompts.clip import clip_files
from tests.reference import (
    DOWN,
    DOWN_TEXT,
    NOISE_SCHEDULE,
    UP,
    UP_TEXT,
    make_autoencoder,
    randomize,
    teach,
)

State = dict[str, torch.Tensor]

SD1: Mapping[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (32, 64, 64),
    "down_block_types": (DOWN_TEXT, DOWN_TEXT, DOWN),
    "up_block_types": (UP, UP_TEXT, UP_TEXT),
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 64,
}
SD2: Mapping[str, Any] = {
    **SD1,
    "sample_size": 96,
    "block_out_channels": (64, 128, 128),
    "layers_per_block": 1,
    "attention_head_dim": [1, 2, 2],
    "cross_attention_dim": 128,
    "use_linear_projection": True,
}
XL: Mapping[str, Any] = {
    **SD2,
    "sample_size": 128,
    "down_block_types": (DOWN, DOWN_TEXT, DOWN_TEXT),
    "up_block_types": (UP_TEXT, UP_TEXT, UP),
    "transformer_layers_per_block": [1, 2, 3],
    "cross_attention_dim": 64 + 128,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 96 + 6 * 256,
}
UNETS: Mapping[str, Mapping[str, Any]] = {
    "SD 1.5": SD1,
    "inpainting": {**SD1, "layers_per_block": 1, "in_channels": 9},
    "LCM": {**SD1, "layers_per_block": 1, "time_cond_proj_dim": 10},
    "BK-SDM": {**SD1, "layers_per_block": 1, "mid_block_type": None},
    "SD 2.1": SD2,
    "SD 2 inpainting": {**SD2, "in_channels": 9, "sample_size": 64},
    "SDXL": XL,
    "refiner": {
        **XL,
        "block_out_channels": (64, 64, 128, 128),
        "down_block_types": (DOWN, DOWN_TEXT, DOWN_TEXT, DOWN),
        "up_block_types": (UP, UP_TEXT, UP_TEXT, UP),
        "attention_head_dim": [1, 1, 2, 2],
        "transformer_layers_per_block": 2,
        "cross_attention_dim": 128,
        "projection_class_embeddings_input_dim": 96 + 5 * 256,
    },
    "SSD-1B": {
        **XL,
        "layers_per_block": 2,
        "mid_block_type": "UNetMidBlock2D",
        "transformer_layers_per_block": [0, [2, 2], [1, 3]],
        "reverse_transformer_layers_per_block": [[3, 1, 2], [2, 1, 1], 1],
    },
}
TEXT: Mapping[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 1,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
}
WIDE: Mapping[str, Any] = {**TEXT, "hidden_size": 128, "num_attention_heads": 2, "hidden_act": "gelu"}
VAE: Mapping[str, Any] = {"block_out_channels": (32, 32, 64), "norm_num_groups": 32}


# --- models -----------------------------------------------------------------------------------------------


def make_whole(family: str, folder: Path) -> Any:
    """diffusers' pipeline of a family. folder: where the tokenizers are written on the way."""
    unet = randomize(UNet2DConditionModel(**UNETS[family]), seed=1, gain=1.0)
    prediction = "v_prediction" if family == "SD 2.1" else "epsilon"
    teach(unet, prediction)
    wide = "projection_class_embeddings_input_dim" in UNETS[family]
    vae = make_autoencoder(seed=2, **VAE, scaling_factor=0.13025 if wide else 0.18215)
    with torch.no_grad():
        vae.decoder.conv_out.weight *= 0.4
    scheduler = EulerDiscreteScheduler(**NOISE_SCHEDULE, prediction_type=prediction, steps_offset=1)
    parts = {"unet": unet, "vae": vae, "scheduler": scheduler}
    if family == "refiner":
        parts |= {
            "text_encoder": None,
            "text_encoder_2": _text_encoder({**WIDE, "projection_dim": 96}, seed=4),
            "tokenizer": None,
            "tokenizer_2": _tokenizer(folder / "tokenizer_2", pad_id=0),
        }
        told = {"requires_aesthetics_score": True, "force_zeros_for_empty_prompt": False}
        pipeline: Any = RefinerPipeline(**parts, **told, add_watermarker=False)
    elif wide:
        parts |= {
            "text_encoder": _text_encoder(TEXT, seed=3),
            "text_encoder_2": _text_encoder({**WIDE, "projection_dim": 96}, seed=4),
            "tokenizer": _tokenizer(folder / "tokenizer"),
            "tokenizer_2": _tokenizer(folder / "tokenizer_2", pad_id=0),
        }
        pipeline = XLPipeline(**parts, add_watermarker=False)
    else:
        second = family.startswith("SD 2")
        parts |= {
            "text_encoder": _text_encoder(WIDE if second else TEXT, seed=3),
            "tokenizer": _tokenizer(folder / "tokenizer", pad_id=0 if second else 49407),
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        }
        pipeline = (InpaintPipeline if "inpainting" in family else PlainPipeline)(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _text_encoder(settings: Mapping[str, Any], seed: int) -> Any:
    kind = CLIPTextModelWithProjection if "projection_dim" in settings else CLIPTextModel
    return randomize(kind(CLIPTextConfig(**settings)), seed, gain=1.0)


def _tokenizer(folder: Path, pad_id: int = 49407) -> CLIPTokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in clip_files(pad_id).items():
        (folder / name).write_bytes(content)
    return CLIPTokenizer.from_pretrained(folder)


# --- the names of one file --------------------------------------------------------------------------------


def ldm_state(pipeline: Any) -> State:
    """Return the tensors of the whole pipeline with the names of a single file, in f32."""
    state = {f"model.diffusion_model.{name}": value for name, value in ldm_unet(pipeline.unet).items()}
    state |= {f"first_stage_model.{name}": value for name, value in ldm_vae(pipeline.vae).items()}
    first, second = pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)
    if first is None:
        state |= _open_clip(second, "conditioner.embedders.0.model.")
        state["conditioner.embedders.0.model.logit_scale"] = torch.tensor(4.6)
    elif second is not None:
        state |= _clip(first, "conditioner.embedders.0.transformer.text_model.")
        state |= _open_clip(second, "conditioner.embedders.1.model.")
        state["conditioner.embedders.1.model.logit_scale"] = torch.tensor(4.6)
    elif pipeline.unet.config.use_linear_projection:
        state |= _open_clip(first, "cond_stage_model.model.")
        layers = first.config.num_hidden_layers
        last = f"cond_stage_model.model.transformer.resblocks.{layers - 1}."
        unused = {name: -value for name, value in state.items() if name.startswith(last)}
        state |= {name.replace(f".{layers - 1}.", f".{layers}."): value for name, value in unused.items()}
        state["cond_stage_model.model.text_projection"] = torch.ones(128, 128)
        state["cond_stage_model.model.logit_scale"] = torch.tensor(4.6)
    else:
        state |= _clip(first, "cond_stage_model.transformer.text_model.")
        name = "cond_stage_model.transformer.text_model.embeddings.position_ids"
        state[name] = torch.arange(77)[None]
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    state |= {"betas": betas, "alphas_cumprod": (1 - betas).cumprod(0)}
    return {name: value.clone() for name, value in state.items()}  # which a test may change


RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "time_embedding.cond_proj": "time_embed.cond_proj",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def ldm_unet(unet: Any) -> State:
    """Return the tensors of a UNet with the same number of layers in all levels."""
    layers = unet.config.layers_per_block
    named = unet.state_dict()
    attends = {name.rpartition(".transformer_blocks")[0] for name in named}

    def translate(name: str) -> str:
        stem, _, kind = name.rpartition(".")
        if stem in ENDS:
            return f"{ENDS[stem]}.{kind}"
        found = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", name)
        if found is None:
            _, part, number, rest = name.split(".", 3)
            place = "1" if part == "attentions" else str(2 * int(number))
            return f"middle_block.{place}.{_inside(part, rest)}"
        way, level, part, number, rest = found.groups()
        base = int(level) * (layers + 1)
        if part == "downsamplers":
            return f"input_blocks.{base + layers + 1}.0.op.{rest.rpartition('.')[2]}"
        if part == "upsamplers":
            place = 2 if f"up_blocks.{level}.attentions.{layers}" in attends else 1
            return f"output_blocks.{base + layers}.{place}.{rest}"
        row, block = ("input", base + 1 + int(number)) if way == "down" else ("output", base + int(number))
        return f"{row}_blocks.{block}.{int(part == 'attentions')}.{_inside(part, rest)}"

    return {translate(name): value for name, value in named.items()}


def _inside(part: str, rest: str) -> str:
    if part == "attentions":
        return rest
    stem, _, kind = rest.rpartition(".")
    return f"{RESNET[stem]}.{kind}"


def ldm_vae(vae: Any) -> State:
    levels = len(vae.config.block_out_channels)
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    state: State = {}
    for name, value in vae.state_dict().items():
        new = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        new = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", new)
        new = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", new)
        for level in range(levels):
            other = levels - 1 - level
            new = new.replace(f"up_blocks.{level}.resnets.", f"up.{other}.block.")
            new = new.replace(f"up_blocks.{level}.upsamplers.0", f"up.{other}.upsample")
        new = new.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        if "mid_block.attentions.0." in new:
            before, _, inside = new.partition("mid_block.attentions.0.")
            stem, _, kind = inside.rpartition(".")
            new = f"{before}mid.attn_1.{attention[stem]}.{kind}"
            value = value[:, :, None, None] if value.ndim == 2 else value
        state[new] = value
    return state


def _clip(encoder: Any, prefix: str) -> State:
    return {prefix + name.removeprefix("text_model."): v for name, v in encoder.state_dict().items()}


def _open_clip(encoder: Any, prefix: str) -> State:
    named = {name.removeprefix("text_model."): value for name, value in encoder.state_dict().items()}
    state = {
        "token_embedding.weight": named["embeddings.token_embedding.weight"],
        "positional_embedding": named["embeddings.position_embedding.weight"],
        "ln_final.weight": named["final_layer_norm.weight"],
        "ln_final.bias": named["final_layer_norm.bias"],
    }
    if "text_projection.weight" in named:
        state["text_projection"] = named["text_projection.weight"].T
    parts = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    for layer in range(encoder.config.num_hidden_layers):
        ours, theirs = f"encoder.layers.{layer}", f"transformer.resblocks.{layer}"
        for kind in ("weight", "bias"):
            heads = [named[f"{ours}.self_attn.{head}_proj.{kind}"] for head in "qkv"]
            state[f"{theirs}.attn.in_proj_{kind}"] = torch.cat(heads)
            state[f"{theirs}.attn.out_proj.{kind}"] = named[f"{ours}.self_attn.out_proj.{kind}"]
            for part, name in parts.items():
                state[f"{theirs}.{name}.{kind}"] = named[f"{ours}.{part}.{kind}"]
    return {prefix + name: value for name, value in state.items()}


# --- editions of a file -----------------------------------------------------------------------------------


def with_average(state: State) -> State:
    """Add different values with the names of a moving average, and other objects of trainers."""
    average = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): value + 1
        for name, value in state.items()
        if name.startswith("model.diffusion_model.")
    }
    counters = {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}
    return {**state, **average, **counters, "first_stage_model.loss.logvar": torch.zeros(())}


def only_average(state: State) -> State:
    """Rename the UNet's tensors to those of a moving average."""
    return {
        "model_ema." + name.removeprefix("model.").replace(".", "")
        if name.startswith("model.diffusion_model.")
        else name: value
        for name, value in state.items()
    }


def without(prefix: str) -> Callable[[State], State]:
    return lambda state: {name: value for name, value in state.items() if not name.startswith(prefix)}


def cast(state: State, dtype: torch.dtype) -> State:
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}


def save(state: State, path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    save_file({name: value.contiguous() for name, value in state.items()}, path, dict(metadata or {}))
    return path


@dataclass(frozen=True)
class Whole:
    """A model for single files. theirs: diffusers' pipeline. folder: for the files."""

    theirs: Any
    folder: Path

    def saved(self) -> Path:
        """The folder that diffusers writes."""
        folder = self.folder / "saved"
        if not folder.exists():
            self.theirs.save_pretrained(folder)
        return folder

    def file(
        self,
        edition: Callable[[State], State] | None = None,
        dtype: torch.dtype = torch.float32,
        name: str = "model.safetensors",
        metadata: Mapping[str, str] | None = None,
    ) -> Path:
        state = cast(ldm_state(self.theirs), dtype)
        return save(state if edition is None else edition(state), self.folder / name, metadata)
