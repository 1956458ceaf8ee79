"""Converts configurations to the JSON that diffusers and transformers read: the inverse of
`configs.read_json`."""

from collections.abc import Sequence
from typing import Any

from pochade.configs.networks import (
    AutoencoderConfig,
    ControlNetConfig,
    TextEncoderConfig,
    TinyAutoencoderConfig,
    UNetConfig,
)


def describe_text_encoder(config: TextEncoderConfig, *, pad_token: int | None = None) -> dict[str, Any]:
    """Return the content of `text_encoder/config.json`. pad_token: None means the end token."""
    projected = config.projection_width is not None
    return {
        "architectures": ["CLIPTextModelWithProjection" if projected else "CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.positions,
        "hidden_size": config.width,
        "intermediate_size": config.feed_forward_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "hidden_act": config.activation,
        "layer_norm_eps": config.norm_eps,
        "projection_dim": config.projection_width if projected else config.width,
        "bos_token_id": config.end_token - 1,
        "eos_token_id": config.end_token,
        "pad_token_id": config.end_token if pad_token is None else pad_token,
    }


def describe_unet(config: UNetConfig) -> dict[str, Any]:
    """Return the content of `unet/config.json`. A level has attention after all of its layers, or after
    none."""
    mid = {None: None, 0: "UNetMidBlock2D"}.get(config.mid_depth, "UNetMidBlock2DCrossAttn")
    added = config.added_width is not None
    return {
        "_class_name": "UNet2DConditionModel",
        "sample_size": config.sample_size,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": list(config.widths),
        "layers_per_block": _one_or_all([len(depths) for depths in config.down_depths]),
        "down_block_types": [
            "CrossAttnDownBlock2D" if any(depths) else "DownBlock2D" for depths in config.down_depths
        ],
        "mid_block_type": mid,
        "up_block_types": [
            "CrossAttnUpBlock2D" if any(depths) else "UpBlock2D" for depths in config.up_depths
        ],
        **_depth_entries(config),
        # diffusers stores the number of heads under this misleading name
        "attention_head_dim": list(config.heads),
        "cross_attention_dim": config.context_width,
        "use_linear_projection": config.linear_projection,
        "norm_num_groups": config.groups,
        "norm_eps": config.norm_eps,
        "addition_embed_type": "text_time" if added else None,
        "addition_time_embed_dim": config.added_time_width,
        "projection_class_embeddings_input_dim": config.added_width,
        "time_cond_proj_dim": config.guidance_width,
        "flip_sin_to_cos": config.flip_sin_to_cos,
        "freq_shift": config.frequency_shift,
    }


def describe_controlnet(config: ControlNetConfig) -> dict[str, Any]:
    """Return a ControlNet's `config.json`: that of its UNet without the up blocks, and its hint network."""
    own = {
        "_class_name": "ControlNetModel",
        "conditioning_channels": config.picture_channels,
        "conditioning_embedding_out_channels": list(config.hint_widths),
        "controlnet_conditioning_channel_order": "bgr" if config.blue_first else "rgb",
        "global_pool_conditions": False,
    }
    unknown = ("sample_size", "out_channels", "up_block_types", "time_cond_proj_dim")
    copied = {key: value for key, value in describe_unet(config.unet).items() if key not in unknown}
    return {**copied, **own}


def describe_autoencoder(config: AutoencoderConfig, sample_size: int) -> dict[str, Any]:
    """Return the content of `vae/config.json`. sample_size: side of the training pictures, in pixels."""
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": config.picture_channels,
        "out_channels": config.picture_channels,
        "latent_channels": config.latent_channels,
        "block_out_channels": list(config.widths),
        "down_block_types": ["DownEncoderBlock2D"] * len(config.widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(config.widths),
        "layers_per_block": config.layers,
        "norm_num_groups": config.groups,
        "act_fn": "silu",
        "sample_size": sample_size,
        "scaling_factor": config.scale,
        "shift_factor": config.shift if config.shift else None,
        "mid_block_add_attention": config.attention,
        "use_quant_conv": config.quant_conv,
        "use_post_quant_conv": config.post_quant_conv,
        "force_upcast": config.force_upcast,
    }


def describe_tiny_autoencoder(config: TinyAutoencoderConfig) -> dict[str, Any]:
    """Return the content of a tiny autoencoder's `config.json`."""
    return {
        "_class_name": "AutoencoderTiny",
        "in_channels": config.picture_channels,
        "latent_channels": config.latent_channels,
        "encoder_block_out_channels": [config.encoder_width] * len(config.encoder_blocks),
        "decoder_block_out_channels": [config.decoder_width] * len(config.decoder_blocks),
        "num_encoder_blocks": list(config.encoder_blocks),
        "num_decoder_blocks": list(config.decoder_blocks),
        "scaling_factor": config.scale,
    }


def _one_or_all(values: Sequence[int]) -> int | list[int]:
    """One number if all are equal: diffusers takes a list for its UNet only."""
    return values[0] if len(set(values)) == 1 else list(values)


def _depth_entries(config: UNetConfig) -> dict[str, Any]:
    """`transformer_layers_per_block`, and its reverse if the up blocks do not mirror the down blocks.

    The entry of the last level also applies to the middle block; levels without attention ignore theirs.
    """
    down, up = config.down_depths, config.up_depths or config.down_depths[::-1]

    def entry(row: tuple[int, ...], otherwise: int) -> int | list[int]:
        return _one_or_all(row) if any(row) else otherwise

    middle = max(1, config.mid_depth or 0)
    entries = [entry(row, middle if level == len(down) - 1 else 1) for level, row in enumerate(down)]
    mirrored = all(
        not any(row) or entry(row, 1) == there for row, there in zip(up, entries[::-1], strict=True)
    )
    if not mirrored:
        return {
            "transformer_layers_per_block": entries,
            "reverse_transformer_layers_per_block": [entry(row, 1) for row in up],
        }
    return {"transformer_layers_per_block": 1 if all(each == 1 for each in entries) else entries}
