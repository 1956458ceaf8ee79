"""The names and shapes of a network's tensors, found by shape inference on its model function."""

from collections.abc import Callable, Mapping
from typing import Any

from pochade.configs.networks import (
    AnyAutoencoderConfig,
    ControlNetConfig,
    RrdbConfig,
    TextEncoderConfig,
    UNetConfig,
)
from pochade.engines.shape_inference import infer_shapes
from pochade.families.clip import CLIP
from pochade.families.family import Architecture
from pochade.families.stable_diffusion import UNET, unet_inputs
from pochade.models.autoencoder import Coders, coders_of
from pochade.models.controlnet import controlnet, embed_hint
from pochade.models.rrdb import rrdb
from pochade.ops import Shape

Inputs = Mapping[str, tuple[Shape, str]]


def architecture_shapes(architecture: Architecture, config: Any) -> Mapping[str, Shape]:
    """Return name -> shape of every tensor of a network with this configuration."""
    return infer_shapes(with_config(architecture.function, config), architecture.inputs(config)).parameters


def text_encoder_shapes(config: TextEncoderConfig) -> Mapping[str, Shape]:
    """Name -> shape of every tensor."""
    return architecture_shapes(CLIP, config)


def unet_shapes(config: UNetConfig) -> Mapping[str, Shape]:
    """Name -> shape of every tensor."""
    return architecture_shapes(UNET, config)


def controlnet_shapes(config: ControlNetConfig) -> Mapping[str, Shape]:
    """Name -> shape of every tensor."""
    inputs, factor = dict(unet_inputs(config.unet)), config.factor
    inputs.pop("guidance", None)
    _, _, *size = inputs["x"][0]
    picture = (1, config.picture_channels, *(side * factor for side in size))
    hint = infer_shapes(with_config(embed_hint, config), {"picture": (picture, "f32")})
    inputs["hint"] = (hint.outputs[0], "f32")
    return {**infer_shapes(with_config(controlnet, config), inputs).parameters, **hint.parameters}


def rrdb_shapes(config: RrdbConfig) -> Mapping[str, Shape]:
    """Name -> shape of every tensor."""
    picture = (1, config.picture_channels, config.unshuffle, config.unshuffle)
    return infer_shapes(with_config(rrdb, config), {"picture": (picture, "f32")}).parameters


def autoencoder_shapes(config: AnyAutoencoderConfig, coders: Coders | None = None) -> Mapping[str, Shape]:
    """Return name -> shape of every tensor of encoder and decoder. coders: None: chosen by the
    configuration."""
    coders = coders_of(config) if coders is None else coders
    picture: Inputs = {"picture": ((1, config.picture_channels, config.factor, config.factor), "f32")}
    latent: Inputs = {"latent": ((1, config.latent_channels, 1, 1), "f32")}
    return {
        **infer_shapes(with_config(coders.encode, config), picture).parameters,
        **infer_shapes(with_config(coders.decode, config), latent).parameters,
    }


def with_config(function: Callable[..., Any], config: object) -> Callable[..., Any]:
    """Bind a configuration: turn `function(ops, config, w, ...)` into `bound(ops, w, ...)` for engines."""

    def bound(ops: Any, w: Any, **inputs: Any) -> Any:
        return function(ops, config, w, **inputs)

    return bound
