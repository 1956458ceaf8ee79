"""TAESD: an autoencoder with a fortieth of the parameters, for previews and fast drawing (Bohan 2023).

It uses the scaled latents of the large autoencoder; pictures lose some fine detail. Blocks are numbered
consecutively as in diffusers, where activations and upsampling layers count too.
"""

from pochade.configs.networks import TinyAutoencoderConfig
from pochade.models.layers import conv
from pochade.ops import Ops, Tensor
from pochade.weights import View

LIMIT = 3.0
"""Latents are squashed into -LIMIT..LIMIT by tanh before they are decoded."""


def encode_tiny(ops: Ops, config: TinyAutoencoderConfig, w: View, picture: Tensor) -> Tensor:
    """(B, 3, H, W) in -1..1 -> the scaled latent (B, latent_channels, H / factor, W / factor)."""
    v, width, number = w / "encoder.layers", config.encoder_width, 0
    x = (picture + 1.0) * 0.5
    for level, blocks in enumerate(config.encoder_blocks):
        x = conv(ops, v / number, x, width) if level == 0 else _halved(ops, v / number, x)
        for i in range(number + 1, number + 1 + blocks):
            x = _block(ops, v / i, x)
        number += 1 + blocks
    return conv(ops, v / number, x, config.latent_channels)


def decode_tiny(ops: Ops, config: TinyAutoencoderConfig, w: View, latent: Tensor) -> Tensor:
    """(B, latent_channels, h, w), scaled -> (B, 3, h * factor, w * factor), about -1..1."""
    v = w / "decoder.layers"
    x = ops.tanh(latent * (1 / LIMIT)) * LIMIT
    x = ops.leaky_relu(conv(ops, v / 0, x, config.decoder_width), 0.0)
    number = 2  # after the first convolution and its activation
    for level, blocks in enumerate(config.decoder_blocks):
        for i in range(number, number + blocks):
            x = _block(ops, v / i, x)
        number += blocks
        if level < len(config.decoder_blocks) - 1:
            width = config.decoder_width
            x = ops.conv2d_doubled(x, (v / (number + 1))("weight", (width, width, 3, 3)), None)
            number += 2
    return conv(ops, v / number, x, config.picture_channels) * 2.0 - 1.0


def _halved(ops: Ops, w: View, x: Tensor) -> Tensor:
    width = ops.shape(x)[1]
    return ops.conv2d(x, w("weight", (width, width, 3, 3)), None, 2, (1, 1, 1, 1))


def _block(ops: Ops, w: View, x: Tensor) -> Tensor:
    """Three convolutions around a skip."""
    width = ops.shape(x)[1]
    h = ops.leaky_relu(conv(ops, w / "conv.0", x, width), 0.0)
    h = ops.leaky_relu(conv(ops, w / "conv.2", h, width), 0.0)
    return ops.leaky_relu(conv(ops, w / "conv.4", h, width) + x, 0.0)
