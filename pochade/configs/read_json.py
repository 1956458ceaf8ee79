"""Reads configurations from the JSON of a diffusers folder; `configs.write_json` is the inverse."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pochade.configs.networks import (
    AnyAutoencoderConfig,
    AutoencoderConfig,
    ControlNetConfig,
    RrdbConfig,
    TextEncoderConfig,
    TinyAutoencoderConfig,
    UNetConfig,
)
from pochade.errors import InvalidCheckpoint

Json = Mapping[str, Any]


def text_encoder_config(json: Json) -> TextEncoderConfig:
    """Read a `text_encoder/config.json` as transformers writes it."""
    where = "the text encoder's config.json"
    architectures = json.get("architectures") or ["CLIPTextModel"]
    _one_of(where, "architectures", architectures[0], ("CLIPTextModel", "CLIPTextModelWithProjection"))
    projected = architectures[0] == "CLIPTextModelWithProjection"
    width = _integer(where, json, "hidden_size", 768)
    activation = json.get("hidden_act", "quick_gelu")
    _one_of(where, "hidden_act", activation, ("quick_gelu", "gelu"))
    heads = _integer(where, json, "num_attention_heads", 12)
    if width % heads:
        raise InvalidCheckpoint(
            f"{where}: hidden_size {width} is not a multiple of num_attention_heads {heads}"
        )
    return TextEncoderConfig(
        vocabulary=_integer(where, json, "vocab_size", 49408),
        positions=_integer(where, json, "max_position_embeddings", 77),
        width=width,
        feed_forward_width=_integer(where, json, "intermediate_size", 4 * width),
        layers=_integer(where, json, "num_hidden_layers", 12),
        heads=heads,
        activation=activation,
        norm_eps=float(json.get("layer_norm_eps", 1e-5)),
        end_token=int(json.get("eos_token_id", 49407)),
        projection_width=_integer(where, json, "projection_dim", 512) if projected else None,
    )


# Options that this UNet does not implement, with the only value that is accepted.
_UNET_FIXED: Json = {
    "center_input_sample": False,
    "only_cross_attention": False,
    "dual_cross_attention": False,
    "class_embed_type": None,
    "num_class_embeds": None,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "act_fn": "silu",
    "resnet_time_scale_shift": "default",
    "resnet_skip_time_act": False,
    "resnet_out_scale_factor": 1.0,
    "mid_block_scale_factor": 1,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "attention_type": "default",
    "class_embeddings_concat": False,
    "mid_block_only_cross_attention": None,
    "cross_attention_norm": None,
    "num_attention_heads": None,
    "downsample_padding": 1,
}


def unet_config(json: Json, where: str = "the UNet's config.json") -> UNetConfig:
    """Read a `unet/config.json` as diffusers writes it. where: the file's name in error messages."""
    for key, only in _UNET_FIXED.items():
        if json.get(key, only) not in (only, None):
            raise InvalidCheckpoint(f"{where}: {key} = {json[key]!r} is not supported; only {only!r} is")
    widths = _integers(where, json, "block_out_channels", (320, 640, 1280, 1280))
    levels = len(widths)
    layers = _per_level(where, "layers_per_block", json.get("layers_per_block", 2), levels)
    depths = _per_level(
        where, "transformer_layers_per_block", json.get("transformer_layers_per_block", 1), levels
    )
    up_depths = json.get("reverse_transformer_layers_per_block")
    if up_depths is None:
        up_depths = depths[::-1]
    down_types = json.get("down_block_types", ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",))
    up_types = json.get("up_block_types", ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)
    for name, types, known in (
        ("down_block_types", down_types, ("DownBlock2D", "CrossAttnDownBlock2D")),
        ("up_block_types", up_types, ("UpBlock2D", "CrossAttnUpBlock2D")),
    ):
        if len(types) != levels:
            raise InvalidCheckpoint(f"{where}: {name} has {len(types)} entries for {levels} levels")
        for kind in types:
            _one_of(where, name, kind, known)
    mid = json.get("mid_block_type", "UNetMidBlock2DCrossAttn")
    _one_of(where, "mid_block_type", mid, (None, "UNetMidBlock2D", "UNetMidBlock2DCrossAttn"))
    heads = _per_level(where, "attention_head_dim", json.get("attention_head_dim", 8), levels)
    context = json.get("cross_attention_dim", 1280)
    if not isinstance(context, int):
        raise InvalidCheckpoint(f"{where}: cross_attention_dim = {context!r} is not supported; one number is")
    added = json.get("addition_embed_type")
    _one_of(where, "addition_embed_type", added, (None, "text_time"))
    config = UNetConfig(
        in_channels=_integer(where, json, "in_channels", 4),
        out_channels=_integer(where, json, "out_channels", 4),
        widths=widths,
        down_depths=tuple(
            _depth_of_layers(where, kind.startswith("CrossAttn"), depth, n)
            for kind, depth, n in zip(down_types, depths, layers, strict=True)
        ),
        mid_depth=None if mid is None else 0 if mid == "UNetMidBlock2D" else _first(depths[-1]),
        up_depths=tuple(
            _depth_of_layers(where, kind.startswith("CrossAttn"), depth, n + 1)
            for kind, depth, n in zip(up_types, up_depths, layers[::-1], strict=True)
        ),
        heads=heads,  # despite its name, attention_head_dim is the number of heads
        context_width=context,
        linear_projection=bool(json.get("use_linear_projection", False)),
        groups=_integer(where, json, "norm_num_groups", 32),
        norm_eps=float(json.get("norm_eps", 1e-5)),
        added_width=_integer(where, json, "projection_class_embeddings_input_dim", 2816) if added else None,
        added_time_width=_integer(where, json, "addition_time_embed_dim", 256) if added else None,
        guidance_width=json.get("time_cond_proj_dim"),
        flip_sin_to_cos=bool(json.get("flip_sin_to_cos", True)),
        frequency_shift=float(json.get("freq_shift", 0)),
        sample_size=64 if json.get("sample_size") is None else _integer(where, json, "sample_size", 64),
    )
    for width, count in zip(config.widths, config.heads, strict=True):
        if width % config.groups or width % count:
            raise InvalidCheckpoint(
                f"{where}: {width} channels do not divide into {config.groups} groups or {count} heads"
            )
    return config


def controlnet_config(json: Json) -> ControlNetConfig:
    """Read a ControlNet's `config.json` as diffusers writes it."""
    where = "the ControlNet's config.json"
    down = json.get("down_block_types", ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",))
    # A ControlNet has no up blocks; mirrored down blocks replace them while the rest is read.
    up = [kind.replace("Down", "Up") for kind in reversed(down)]
    unet = unet_config({**json, "up_block_types": up}, where)
    order = json.get("controlnet_conditioning_channel_order", "rgb")
    _one_of(where, "controlnet_conditioning_channel_order", order, ("rgb", "bgr"))
    return ControlNetConfig(
        unet=replace(unet, up_depths=()),
        picture_channels=_integer(where, json, "conditioning_channels", 3),
        hint_widths=_integers(where, json, "conditioning_embedding_out_channels", (16, 32, 96, 256)),
        blue_first=order == "bgr",
    )


def any_autoencoder_config(json: Json) -> AnyAutoencoderConfig:
    """Read a `vae/config.json` of either autoencoder class."""
    if json.get("_class_name") == "AutoencoderTiny":
        return tiny_autoencoder_config(json)
    return autoencoder_config(json)


def tiny_autoencoder_config(json: Json) -> TinyAutoencoderConfig:
    """Read the `config.json` of diffusers' AutoencoderTiny."""
    where = "the tiny autoencoder's config.json"
    for name, only in (("act_fn", "relu"), ("upsample_fn", "nearest"), ("upsampling_scaling_factor", 2)):
        _one_of(where, name, json.get(name, only), (only,))
    encoder = _integers(where, json, "num_encoder_blocks", (1, 3, 3, 3))
    decoder = _integers(where, json, "num_decoder_blocks", (3, 3, 3, 1))
    widths = {}
    for name, blocks in (("encoder_block_out_channels", encoder), ("decoder_block_out_channels", decoder)):
        given = _integers(where, json, name, (64,) * len(blocks))
        if len(set(given)) > 1 or len(given) != len(blocks) or len(encoder) != len(decoder):
            raise InvalidCheckpoint(
                f"{where}: {name} = {given!r} is not supported; one width for all sizes is"
            )
        widths[name] = given[0]
    return TinyAutoencoderConfig(
        picture_channels=_integer(where, json, "in_channels", 3),
        latent_channels=_integer(where, json, "latent_channels", 4),
        encoder_width=widths["encoder_block_out_channels"],
        decoder_width=widths["decoder_block_out_channels"],
        encoder_blocks=encoder,
        decoder_blocks=decoder,
        scale=float(json.get("scaling_factor", 1.0)),
        shift=float(json.get("shift_factor") or 0.0),
    )


def rrdb_config(json: Json) -> RrdbConfig:
    """Read the table that `checkpoints.upscaler` detects from the shapes of the tensors."""
    where = "the upscaler's tensors"
    channels, read = _integer(where, json, "channels", 3), _integer(where, json, "channels_read", 3)
    doublings = json.get("doublings", 2)
    squares = {channels * side**2: side for side in (1, 2, 4)}
    _one_of(where, "channels of a picture", channels, (3,))
    _one_of(where, "channels that are read", read, tuple(squares))
    _one_of(where, "doublings", doublings, (0, 1, 2, 3))
    if squares[read] > 1 << doublings:
        raise InvalidCheckpoint(f"{where}: {read} channels and {doublings} doublings make pictures smaller")
    return RrdbConfig(
        picture_channels=channels,
        width=_integer(where, json, "width", 64),
        growth=_integer(where, json, "growth", 32),
        blocks=_integer(where, json, "blocks", 23),
        doublings=doublings,
        unshuffle=squares[read],
    )


def autoencoder_config(json: Json) -> AutoencoderConfig:
    """Read a `vae/config.json` as diffusers writes it."""
    where = "the autoencoder's config.json"
    for name, only in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
        for kind in json.get(name, (only,)):
            _one_of(where, name, kind, (only,))
    _one_of(where, "act_fn", json.get("act_fn", "silu"), ("silu",))
    for name in ("latents_mean", "latents_std"):
        _one_of(where, name, json.get(name), (None,))
    return AutoencoderConfig(
        picture_channels=_integer(where, json, "in_channels", 3),
        latent_channels=_integer(where, json, "latent_channels", 4),
        widths=_integers(where, json, "block_out_channels", (64,)),
        layers=_integer(where, json, "layers_per_block", 1),
        groups=_integer(where, json, "norm_num_groups", 32),
        scale=float(json.get("scaling_factor", 0.18215)),
        shift=float(json.get("shift_factor") or 0.0),
        attention=bool(json.get("mid_block_add_attention", True)),
        quant_conv=bool(json.get("use_quant_conv", True)),
        post_quant_conv=bool(json.get("use_post_quant_conv", True)),
        force_upcast=bool(json.get("force_upcast", True)),
    )


def _one_of(where: str, name: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        raise InvalidCheckpoint(
            f"{where}: {name} = {value!r} is not supported; known: {', '.join(map(str, known))}"
        )


def _integer(where: str, json: Json, name: str, default: int) -> int:
    value = json.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidCheckpoint(f"{where}: {name} = {value!r} is not a positive whole number")
    return value


def _integers(where: str, json: Json, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    values = json.get(name, default)
    if (
        not isinstance(values, (list, tuple))
        or not values
        or not all(isinstance(v, int) and v > 0 for v in values)
    ):
        raise InvalidCheckpoint(f"{where}: {name} = {values!r} is not a list of positive whole numbers")
    return tuple(values)


def _per_level(where: str, name: str, value: Any, levels: int) -> tuple[Any, ...]:
    """Expand one value for all levels, or check a list with one value per level."""
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,) * levels
    if len(values) != levels:
        raise InvalidCheckpoint(f"{where}: {name} has {len(values)} entries for {levels} levels")
    return values


def _depth_of_layers(where: str, attends: bool, depth: Any, layers: int) -> tuple[int, ...]:
    """The number of transformer blocks after each residual block of a level; pruned models (SSD-1B) list
    them."""
    if not attends:
        return (0,) * layers
    return _per_level(where, "transformer_layers_per_block", depth, layers)


def _first(depth: Any) -> int:
    return int(depth[0]) if isinstance(depth, (list, tuple)) else int(depth)
