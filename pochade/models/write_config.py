"""Converts configurations to the JSON that diffusers and transformers read: the inverse of
`models.read_config`."""

from typing import Any

from pochade.models.config import AutoencoderConfig, ControlNetConfig, TextEncoderConfig, UNetConfig


def describe_text_encoder(config: TextEncoderConfig) -> dict[str, Any]:
    """Return the content of `text_encoder/config.json`."""
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
        "pad_token_id": config.end_token,
    }


def describe_unet(config: UNetConfig) -> dict[str, Any]:
    """Return the content of `unet/config.json`. All layers of a level have attention, or none."""
    depths = [max(depths) for depths in config.down_depths]
    mid = {None: None, 0: "UNetMidBlock2D"}.get(config.mid_depth, "UNetMidBlock2DCrossAttn")
    added = config.added_width is not None
    return {
        "_class_name": "UNet2DConditionModel",
        "sample_size": config.sample_size,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": list(config.widths),
        "layers_per_block": [len(depths) for depths in config.down_depths],
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "mid_block_type": mid,
        "up_block_types": ["CrossAttnUpBlock2D" if max(d) else "UpBlock2D" for d in config.up_depths],
        "transformer_layers_per_block": [depth or 1 for depth in depths],
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
    layers = copied["layers_per_block"]
    if len(set(layers)) == 1:  # diffusers takes one number here, and a list for its UNet only
        copied["layers_per_block"] = layers[0]
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
