"""The KL autoencoder: pictures to latents and back (Rombach et al. 2022, section 3.1)."""

from collections.abc import Callable
from typing import Any, NamedTuple

from pochade.configs.networks import AnyAutoencoderConfig, AutoencoderConfig, TinyAutoencoderConfig
from pochade.models.layers import (
    conv,
    group_norm,
    join_heads,
    linear,
    residual_block,
    split_heads,
    to_picture,
    to_tokens,
    upsample,
)
from pochade.models.tiny_autoencoder import decode_tiny, encode_tiny
from pochade.ops import Ops, Tensor
from pochade.weights import View

EPS = 1e-6


def encode(ops: Ops, config: AutoencoderConfig, w: View, picture: Tensor) -> Tensor:
    """(B, 3, H, W) in -1..1 -> (B, 2 * latent_channels, H / factor, W / factor).

    The first half of the channels is the posterior's mean, the second its log-variance; neither is scaled.
    """
    v = w / "encoder"
    x = conv(ops, v / "conv_in", picture, config.widths[0])
    for level, width in enumerate(config.widths):
        block = v / f"down_blocks.{level}"
        for i in range(config.layers):
            x = _residual(ops, config, block / f"resnets.{i}", x, width)
        if level < len(config.widths) - 1:
            # Stable Diffusion's autoencoder pads only at the bottom and at the right.
            x = conv(ops, block / "downsamplers.0.conv", x, width, stride=2, padding=(0, 1, 0, 1))
    x = _middle(ops, config, v / "mid_block", x)
    x = ops.silu(group_norm(ops, v / "conv_norm_out", x, config.groups, EPS))
    x = conv(ops, v / "conv_out", x, 2 * config.latent_channels)
    if config.quant_conv:
        x = conv(ops, w / "quant_conv", x, 2 * config.latent_channels, kernel=1)
    return x


def decode(ops: Ops, config: AutoencoderConfig, w: View, latent: Tensor) -> Tensor:
    """(B, latent_channels, h, w), unscaled -> (B, 3, h * factor, w * factor), about -1..1."""
    v = w / "decoder"
    x = latent
    if config.post_quant_conv:
        x = conv(ops, w / "post_quant_conv", x, config.latent_channels, kernel=1)
    x = conv(ops, v / "conv_in", x, config.widths[-1])
    x = _middle(ops, config, v / "mid_block", x)
    for level, width in enumerate(config.widths[::-1]):
        block = v / f"up_blocks.{level}"
        for i in range(config.layers + 1):
            x = _residual(ops, config, block / f"resnets.{i}", x, width)
        if level < len(config.widths) - 1:
            rows, columns = ops.shape(x)[2:]
            x = upsample(ops, block / "upsamplers.0", x, 2 * rows, 2 * columns)
    x = ops.silu(group_norm(ops, v / "conv_norm_out", x, config.groups, EPS))
    return conv(ops, v / "conv_out", x, config.picture_channels)


class Coders(NamedTuple):
    """encode: (ops, config, w, picture) -> moments or the scaled latent, as `models.autoencoder.encode`.
    decode: (ops, config, w, latent) -> pictures."""

    encode: Callable[..., Any]
    decode: Callable[..., Any]


def coders_of(config: AnyAutoencoderConfig) -> Coders:
    """Those of the KL autoencoder or of the tiny one."""
    return (
        Coders(encode_tiny, decode_tiny)
        if isinstance(config, TinyAutoencoderConfig)
        else Coders(encode, decode)
    )


def _residual(ops: Ops, config: AutoencoderConfig, w: View, x: Tensor, width: int) -> Tensor:
    return residual_block(ops, w, x, width, groups=config.groups, eps=EPS)


def _middle(ops: Ops, config: AutoencoderConfig, w: View, x: Tensor) -> Tensor:
    width = config.widths[-1]
    x = _residual(ops, config, w / "resnets.0", x, width)
    if config.attention:
        x = x + _attention(ops, config, w / "attentions.0", x)
    return _residual(ops, config, w / "resnets.1", x, width)


def _attention(ops: Ops, config: AutoencoderConfig, w: View, x: Tensor) -> Tensor:
    """Every pixel attends to every other, with one head as wide as the channels."""
    _, channels, rows, columns = ops.shape(x)
    h = to_tokens(ops, group_norm(ops, w / "group_norm", x, config.groups, EPS))
    query, key, value = (split_heads(ops, linear(ops, w / f"to_{name}", h, channels), 1) for name in "qkv")
    h = join_heads(ops, ops.attention(query, key, value))
    return to_picture(ops, linear(ops, w / "to_out.0", h, channels), rows, columns)
