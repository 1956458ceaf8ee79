"""The RRDB network of the upscaler ESRGAN (Wang et al. 2018) and Real-ESRGAN (Wang et al. 2021)."""

from pochade.configs.networks import RrdbConfig
from pochade.models.layers import conv
from pochade.ops import Ops, Tensor
from pochade.weights import View

SLOPE = 0.2
SHARE = 0.2
"""The factor that scales what each block adds: deep networks without normalisation need less than 1."""

DENSE = 5
"""Convolutions in a dense block."""


def rrdb(ops: Ops, config: RrdbConfig, w: View, picture: Tensor) -> Tensor:
    """(B, 3, H, W) in 0..1 -> (B, 3, H * scale, W * scale), about 0..1.

    `config.unshuffle` divides H and W.
    """
    x = _unshuffled(ops, picture, config.unshuffle) if config.unshuffle > 1 else picture
    x = conv(ops, w / "conv_first", x, config.width)
    h = x
    for i in range(config.blocks):
        h = _block(ops, config, w / f"body.{i}", h)
    x = x + conv(ops, w / "conv_body", h, config.width)
    for i in range(config.doublings):
        v = w / f"conv_up{i + 1}"
        weight, bias = v("weight", (config.width, config.width, 3, 3)), v("bias", (config.width,))
        x = ops.leaky_relu(ops.conv2d_doubled(x, weight, bias), SLOPE)
    x = ops.leaky_relu(conv(ops, w / "conv_hr", x, config.width), SLOPE)
    return conv(ops, w / "conv_last", x, config.picture_channels)


def _block(ops: Ops, config: RrdbConfig, w: View, x: Tensor) -> Tensor:
    """Residual in residual: three dense blocks around a skip (Wang et al. 2018, figure 4)."""
    h = x
    for i in (1, 2, 3):
        h = _dense(ops, config, w / f"rdb{i}", h)
    return x + h * SHARE


def _dense(ops: Ops, config: RrdbConfig, w: View, x: Tensor) -> Tensor:
    """A dense block: each convolution reads the outputs of all before it."""
    seen = [x]
    for i in range(1, DENSE):
        h = conv(ops, w / f"conv{i}", ops.concat(seen, axis=1) if len(seen) > 1 else x, config.growth)
        seen.append(ops.leaky_relu(h, SLOPE))
    return x + conv(ops, w / f"conv{DENSE}", ops.concat(seen, axis=1), config.width) * SHARE


def _unshuffled(ops: Ops, x: Tensor, side: int) -> Tensor:
    """Pixel unshuffle: (B, C, H, W) -> (B, C * side^2, H / side, W / side)."""
    batch, channels, rows, columns = ops.shape(x)
    h = ops.reshape(x, (batch, channels, rows // side, side, columns // side, side))
    h = ops.transpose(h, (0, 1, 3, 5, 2, 4))
    return ops.reshape(h, (batch, channels * side**2, rows // side, columns // side))
