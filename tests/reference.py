"""Tiny random models in diffusers' and transformers' classes, as references.

Each family of Stable Diffusion in a few hundred thousand parameters, with every distinguishing feature.
No parameter keeps an initialisation of zero or one that could hide an error.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    ControlNetModel,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
)
from diffusers import StableDiffusionInpaintPipeline as InpaintPipeline
from diffusers import StableDiffusionPipeline as PlainPipeline
from diffusers import StableDiffusionXLPipeline as XLPipeline
from numpy.typing import NDArray
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pochade.loading.parameter_shapes import with_config

Floats = NDArray[np.float32]

START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = ("r e", "re d</w>", "f o", "fo x</w>", "s n", "o w</w>", "sn ow</w>", "t h", "th e</w>")

DOWN, DOWN_TEXT = "DownBlock2D", "CrossAttnDownBlock2D"
UP, UP_TEXT = "UpBlock2D", "CrossAttnUpBlock2D"

SD15: Mapping[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (16, 32, 32),
    "down_block_types": (DOWN_TEXT, DOWN_TEXT, DOWN),
    "up_block_types": (UP, UP_TEXT, UP_TEXT),
    "layers_per_block": 2,
    "attention_head_dim": 4,
    "cross_attention_dim": 24,
    "norm_num_groups": 8,
}
XL: Mapping[str, Any] = {
    **SD15,
    "layers_per_block": 1,
    "down_block_types": (DOWN, DOWN_TEXT, DOWN_TEXT),
    "up_block_types": (UP_TEXT, UP_TEXT, UP),
    "transformer_layers_per_block": [1, 2, 3],
    "attention_head_dim": [2, 4, 8],
    "cross_attention_dim": 24 + 32,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 20 + 6 * 8,
}
UNETS: Mapping[str, Mapping[str, Any]] = {
    "SD 1.5": SD15,
    "SD 2.1": {
        **SD15,
        "layers_per_block": 1,
        "attention_head_dim": [2, 4, 8],
        "use_linear_projection": True,
    },
    "SDXL": XL,
    "inpainting": {**SD15, "layers_per_block": 1, "in_channels": 9},
    "LCM": {**SD15, "layers_per_block": 1, "time_cond_proj_dim": 10},
    "BK-SDM": {**SD15, "layers_per_block": 1, "mid_block_type": None},
    "SSD-1B": {
        **XL,
        "layers_per_block": 2,
        "mid_block_type": "UNetMidBlock2D",
        "transformer_layers_per_block": [0, [2, 2], [1, 3]],
        "reverse_transformer_layers_per_block": [[3, 1, 2], [2, 1, 1], 1],
    },
    "uneven": {  # supported by diffusers, but used by no published model, as far as we know
        **SD15,
        "block_out_channels": (16, 48),
        "down_block_types": (DOWN, DOWN_TEXT),
        "up_block_types": (UP_TEXT, UP),
        "layers_per_block": [1, 2],
        "transformer_layers_per_block": [1, 2],
        "norm_eps": 1e-6,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "out_channels": 8,
    },
}
TEXT_ENCODERS: Mapping[str, Mapping[str, Any]] = {
    "CLIP L": {"hidden_size": 24, "hidden_act": "quick_gelu", "num_hidden_layers": 3},
    "OpenCLIP H": {"hidden_size": 24, "hidden_act": "gelu", "num_hidden_layers": 5},
    "OpenCLIP bigG": {
        "hidden_size": 32,
        "hidden_act": "gelu",
        "num_hidden_layers": 4,
        "projection_dim": 20,
        "layer_norm_eps": 2e-5,
    },
}
AUTOENCODER: Mapping[str, Any] = {
    "block_out_channels": (16, 16, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 2,
    "norm_num_groups": 8,
    "sample_size": 32,
}
TINY_AUTOENCODER: Mapping[str, Any] = {
    "encoder_block_out_channels": (16, 16, 16),
    "decoder_block_out_channels": (24, 24, 24),
    "num_encoder_blocks": (1, 2, 3),
    "num_decoder_blocks": (3, 1, 2),
}
FACTOR = 4
"""Pixels per latent pixel of both autoencoders."""

NOISE_SCHEDULE: Mapping[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
}


# --- models -----------------------------------------------------------------------------------------------


def randomize(model: torch.nn.Module, seed: int = 0, gain: float = 0.6) -> Any:
    """Set every parameter to random values.

    gain: standard deviation of a layer's output for an input of deviation one; torch initialises to 0.58. At
    1, random UNets amplify their input, including rounding errors: diffusers' lose 2 % in bf16 then. The same
    holds for autoencoders below 1, where the signal decays.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if "norm" in name:
                parameter.copy_(values * 0.1 + float(name.endswith("weight")))
            elif parameter.ndim == 1:
                parameter.copy_(values * 0.1 * gain)
            elif "embedding.weight" in name:  # a table of rows, not a matrix
                parameter.copy_(values * gain)
            else:
                parameter.copy_(values * gain / parameter[0].numel() ** 0.5)
    return model.eval().requires_grad_(False)


def make_unet(family: str, seed: int = 0, gain: float = 0.6) -> UNet2DConditionModel:
    return randomize(UNet2DConditionModel(**UNETS[family]), seed, gain)


def unet_inputs(
    config: Mapping[str, Any], shape: tuple[int, int, int] = (2, 13, 9), tokens: int = 77, seed: int = 0
) -> dict[str, Any]:
    """Return random arguments for diffusers' UNet of a `config.json`, including those of some families only.

    shape: (B, H, W).
    """
    rng = np.random.default_rng(seed)
    rows, height, width = shape

    def normal(*sides: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal((rows, *sides), np.float32))

    inputs: dict[str, Any] = {
        "sample": normal(config["in_channels"], height, width),
        "timestep": torch.from_numpy(rng.integers(0, 1000, rows)),
        "encoder_hidden_states": normal(tokens, config["cross_attention_dim"]),
    }
    if config["addition_embed_type"] is not None:
        width, each = config["projection_class_embeddings_input_dim"], config["addition_time_embed_dim"]
        count = 6 if width > 6 * each else 5  # the refiner
        sizes = rng.integers(0, 1024, (rows, count)).astype(np.float32)
        pooled = normal(width - count * each)
        inputs["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": torch.from_numpy(sizes)}
    if config["time_cond_proj_dim"] is not None:
        inputs["timestep_cond"] = normal(config["time_cond_proj_dim"])
    return inputs


def teach(unet: UNet2DConditionModel, prediction: str) -> None:
    """Fit the last layer by least squares to the target of a trained model: the noise, or v.

    The random weights remain as an error. So latents shrink from step to step, as with a trained model, and
    every step affects the picture.
    """
    with torch.no_grad():
        unet.conv_in.weight *= 2  # so that the residuals do not dominate the latent
    inputs = unet_inputs(unet.config, (96, 8, 8), tokens=4)
    coarse = inputs["sample"][:, :4, ::2, ::2]
    data = coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    noise = torch.randn(data.shape, generator=torch.Generator().manual_seed(0))
    betas = torch.linspace(NOISE_SCHEDULE["beta_start"] ** 0.5, NOISE_SCHEDULE["beta_end"] ** 0.5, 1000) ** 2
    share = (1 - betas).cumprod(0)[inputs["timestep"]].reshape(-1, 1, 1, 1)
    inputs["sample"][:, :4] = share**0.5 * data + (1 - share) ** 0.5 * noise
    target = share**0.5 * noise - (1 - share) ** 0.5 * data if prediction == "v_prediction" else noise
    seen: list[torch.Tensor] = []
    hook = unet.conv_out.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        unet(**inputs)
        hook.remove()
        columns = torch.nn.functional.unfold(seen[0], 3, padding=1).transpose(1, 2).flatten(0, 1)
        fitted = torch.linalg.lstsq(columns, target.permute(0, 2, 3, 1).flatten(0, 2)).solution.T
        unet.conv_out.weight.mul_(0.2).add_(fitted.reshape(unet.conv_out.weight.shape))


def make_autoencoder(seed: int = 0, gain: float = 1.0, **settings: Any) -> AutoencoderKL:
    return randomize(AutoencoderKL(**{**AUTOENCODER, **settings}), seed, gain)


def make_tiny_autoencoder(seed: int = 0, gain: float = 1.0, **settings: Any) -> AutoencoderTiny:
    return randomize(AutoencoderTiny(**{**TINY_AUTOENCODER, **settings}), seed, gain)


def make_controlnet(family: str, seed: int = 0, gain: float = 0.6, **settings: Any) -> ControlNetModel:
    """Make a ControlNet for UNets of the family; control pictures are FACTOR times as large as latents."""
    unet = UNet2DConditionModel(**{**UNETS[family], "in_channels": 4})
    model = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 12), **settings)
    randomize(model, seed, gain)
    randomize(model.controlnet_cond_embedding, seed, 2.5)  # or the latent would dominate the picture
    return model


def make_text_encoder(kind: str, seed: int = 0, gain: float = 1.0) -> CLIPTextModel:
    tokens = _vocabulary()
    config = CLIPTextConfig(
        **{
            "vocab_size": len(tokens),
            "intermediate_size": 64,
            "num_attention_heads": 4,
            "bos_token_id": tokens[START],
            "eos_token_id": tokens[END],
            "pad_token_id": tokens[END],
            **TEXT_ENCODERS[kind],
        }
    )
    kind_of_model = CLIPTextModelWithProjection if "projection_dim" in TEXT_ENCODERS[kind] else CLIPTextModel
    return randomize(kind_of_model(config), seed, gain)


def make_tokenizer(folder: Path, pad: str = END) -> CLIPTokenizer:
    """Write a tokenizer to the folder and read it with transformers. SD 2.x and XL's second pad with "!"."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(_vocabulary()), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]) + "\n", encoding="utf-8")
    specials = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    (folder / "special_tokens_map.json").write_text(json.dumps(specials), encoding="utf-8")
    config = {**specials, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)


def _vocabulary() -> dict[str, int]:
    """ "!" is 0, as in CLIP's; then the bytes' letters, the same at a word's end, merges, start and end."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [*map(chr, printable), *(chr(256 + n) for n in range(256 - len(printable)))]
    merged = [pair.replace(" ", "") for pair in MERGES]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *merged, START, END]
    return {piece: number for number, piece in enumerate(pieces)}


# --- pipelines --------------------------------------------------------------------------------------------


def make_pipeline(family: str, folder: Path, **scheduler: Any) -> Any:
    """diffusers' pipeline of a family: SD 1.5, SD 2.1 (which predicts v), SDXL, inpainting or LCM.

    folder: where the tokenizers are written on the way.
    """
    unet = make_unet(family, seed=1, gain=1.0)  # with less, a prompt changes the picture too little
    vae = make_autoencoder(seed=2)
    with torch.no_grad():  # most pixels within -1..1, or clipping would hide differences
        vae.decoder.conv_out.weight *= 0.4
    prediction = "v_prediction" if family == "SD 2.1" else "epsilon"
    teach(unet, prediction)
    plain = EulerDiscreteScheduler(**NOISE_SCHEDULE, prediction_type=prediction, steps_offset=1, **scheduler)
    parts = {"unet": unet, "vae": vae, "scheduler": plain}
    if family == "SDXL":
        parts |= {
            "text_encoder": make_text_encoder("CLIP L", seed=3),
            "text_encoder_2": make_text_encoder("OpenCLIP bigG", seed=4),
            "tokenizer": make_tokenizer(folder / "tokenizer"),
            "tokenizer_2": make_tokenizer(folder / "tokenizer_2", pad="!"),
        }
        pipeline: Any = XLPipeline(**parts, add_watermarker=False)
    else:
        second = family == "SD 2.1"
        parts |= {
            "text_encoder": make_text_encoder("OpenCLIP H" if second else "CLIP L", seed=3),
            "tokenizer": make_tokenizer(folder / "tokenizer", pad="!" if second else END),
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        }
        pipeline = (InpaintPipeline if family == "inpainting" else PlainPipeline)(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


# --- ours -------------------------------------------------------------------------------------------------


def stored(model: torch.nn.Module) -> dict[str, Floats]:
    """Return the tensors with Pochade's canonical names."""
    return {name.removeprefix("text_model."): value.numpy() for name, value in model.state_dict().items()}


def evaluate(
    engine: Any, function: Callable[..., Any], config: object, tensors: Mapping[str, Any], **arrays: Any
) -> Any:
    """Evaluate `function(ops, config, w, **arrays)` on an engine."""
    inputs = {
        name: (array.shape, "i64" if array.dtype.kind == "i" else "f32") for name, array in arrays.items()
    }
    return engine.compile(with_config(function, config), tensors, inputs)(**arrays)


# --- measures ---------------------------------------------------------------------------------------------


def relative_error(actual: Any, expected: Any) -> float:
    """Return the Frobenius norm of the difference divided by that of the expected array, in 64 bits."""
    actual, expected = (np.asarray(each, np.float64) for each in (actual, expected))
    assert actual.shape == expected.shape, f"{actual.shape} is compared with {expected.shape}"
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def psnr(actual: Any, expected: Any) -> float:
    """Return the PSNR of two pictures of bytes, dB; infinite if they are equal."""
    actual, expected = (np.asarray(each, np.float64) for each in (actual, expected))
    assert actual.shape == expected.shape, f"{actual.shape} is compared with {expected.shape}"
    error = np.square(actual - expected).mean()
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
