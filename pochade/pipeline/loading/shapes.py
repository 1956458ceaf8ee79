"""The tensors that a model of a given configuration has: asked of the model function itself."""

from collections.abc import Callable, Mapping
from typing import Any

from pochade.engines.outline import outline
from pochade.models.autoencoder import decode, encode
from pochade.models.config import (
    AnyAutoencoderConfig,
    ControlNetConfig,
    RrdbConfig,
    TextEncoderConfig,
    TinyAutoencoderConfig,
    UNetConfig,
)
from pochade.models.controlnet import controlnet, embed_hint
from pochade.models.rrdb import rrdb
from pochade.models.text_encoder import text_encoder
from pochade.models.tiny_autoencoder import decode_tiny, encode_tiny
from pochade.models.unet import unet
from pochade.ops import Shape

Inputs = Mapping[str, tuple[Shape, str]]


def text_encoder_shapes(config: TextEncoderConfig) -> Mapping[str, Shape]:
    """Name -> shape of every tensor."""
    inputs = {"ids": ((1, config.positions), "i64"), "end": ((1,), "i64")}
    return outline(with_config(text_encoder, config), inputs).parameters


def unet_shapes(config: UNetConfig) -> Mapping[str, Shape]:
    """Name -> shape of every tensor."""
    inputs = _unet_inputs(config)
    if config.guidance_width is not None:
        inputs["guidance"] = ((1, config.guidance_width), "f32")
    return outline(with_config(unet, config), inputs).parameters


def controlnet_shapes(config: ControlNetConfig) -> Mapping[str, Shape]:
    """Name -> shape of every tensor."""
    inputs, factor = _unet_inputs(config.unet), config.factor
    _, _, *size = inputs["x"][0]
    picture = (1, config.picture_channels, *(side * factor for side in size))
    hint = outline(with_config(embed_hint, config), {"picture": (picture, "f32")})
    inputs["hint"] = (hint.outputs[0], "f32")
    return {**outline(with_config(controlnet, config), inputs).parameters, **hint.parameters}


def rrdb_shapes(config: RrdbConfig) -> Mapping[str, Shape]:
    """Name -> shape of every tensor."""
    picture = (1, config.picture_channels, config.unshuffle, config.unshuffle)
    return outline(with_config(rrdb, config), {"picture": (picture, "f32")}).parameters


def autoencoder_shapes(config: AnyAutoencoderConfig) -> Mapping[str, Shape]:
    """Name -> shape of every tensor, of encoder and decoder."""
    coders = (encode_tiny, decode_tiny) if isinstance(config, TinyAutoencoderConfig) else (encode, decode)
    picture: Inputs = {"picture": ((1, config.picture_channels, config.factor, config.factor), "f32")}
    latent: Inputs = {"latent": ((1, config.latent_channels, 1, 1), "f32")}
    return {
        **outline(with_config(coders[0], config), picture).parameters,
        **outline(with_config(coders[1], config), latent).parameters,
    }


def _unet_inputs(config: UNetConfig) -> dict[str, tuple[Shape, str]]:
    side = 2 ** (len(config.widths) - 1)
    inputs: dict[str, tuple[Shape, str]] = {
        "x": ((1, config.in_channels, side, side), "f32"),
        "time": ((1, config.widths[0]), "f32"),
        "context": ((1, 77, config.context_width), "f32"),
    }
    if config.added_width is not None:
        inputs["added"] = ((1, config.added_width), "f32")
    return inputs


def with_config(function: Callable[..., Any], config: object) -> Callable[..., Any]:
    """`function(ops, config, w, ...)` as engines take it: `bound(ops, w, ...)`."""

    def bound(ops: Any, w: Any, **inputs: Any) -> Any:
        return function(ops, config, w, **inputs)

    return bound
