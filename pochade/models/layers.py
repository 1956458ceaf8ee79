"""Layers shared by the models. Each takes the operations, a view of its weights, and its input."""

from pochade.ops import Ops, Padding, Tensor
from pochade.weights import View


def linear(ops: Ops, w: View, x: Tensor, width: int, *, bias: bool = True) -> Tensor:
    """(..., I) -> (..., width)."""
    weight = w("weight", (width, ops.shape(x)[-1]))
    return ops.linear(x, weight, w("bias", (width,)) if bias else None)


def conv(
    ops: Ops,
    w: View,
    x: Tensor,
    channels: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    padding: Padding | None = None,
) -> Tensor:
    """(B, I, H, W) -> (B, channels, H', W'); without a stride or padding given, H' = H and W' = W."""
    if padding is None:
        padding = (kernel // 2,) * 4
    weight = w("weight", (channels, ops.shape(x)[1], kernel, kernel))
    return ops.conv2d(x, weight, w("bias", (channels,)), stride, padding)


def group_norm(ops: Ops, w: View, x: Tensor, groups: int, eps: float) -> Tensor:
    """(B, C, H, W) -> the same shape."""
    channels = ops.shape(x)[1]
    return ops.group_norm(x, w("weight", (channels,)), w("bias", (channels,)), groups, eps)


def layer_norm(ops: Ops, w: View, x: Tensor, eps: float = 1e-5) -> Tensor:
    """(..., D) -> the same shape."""
    width = ops.shape(x)[-1]
    return ops.layer_norm(x, w("weight", (width,)), w("bias", (width,)), eps)


def split_heads(ops: Ops, x: Tensor, heads: int) -> Tensor:
    """(B, T, N * D) -> (B, N, T, D)."""
    batch, tokens, width = ops.shape(x)
    return ops.transpose(ops.reshape(x, (batch, tokens, heads, width // heads)), (0, 2, 1, 3))


def join_heads(ops: Ops, x: Tensor) -> Tensor:
    """(B, N, T, D) -> (B, T, N * D)."""
    batch, heads, tokens, width = ops.shape(x)
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (batch, tokens, heads * width))


def to_tokens(ops: Ops, x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H * W, C)."""
    batch, channels, height, width = ops.shape(x)
    return ops.reshape(ops.transpose(x, (0, 2, 3, 1)), (batch, height * width, channels))


def to_picture(ops: Ops, x: Tensor, height: int, width: int) -> Tensor:
    """(B, H * W, C) -> (B, C, H, W)."""
    batch, _, channels = ops.shape(x)
    return ops.transpose(ops.reshape(x, (batch, height, width, channels)), (0, 3, 1, 2))


def residual_block(
    ops: Ops, w: View, x: Tensor, channels: int, *, groups: int, eps: float, time: Tensor | None = None
) -> Tensor:
    """Two convolutions around a skip (He et al. 2016): (B, I, H, W) -> (B, channels, H, W).

    time: the activated timestep embedding (B, T), added per channel between the two (Ho et al. 2020,
    appendix B).
    """
    h = ops.silu(group_norm(ops, w / "norm1", x, groups, eps))
    h = conv(ops, w / "conv1", h, channels)
    if time is not None:
        shift = linear(ops, w / "time_emb_proj", time, channels)
        h = h + ops.reshape(shift, (*ops.shape(shift), 1, 1))
    h = ops.silu(group_norm(ops, w / "norm2", h, groups, eps))
    h = conv(ops, w / "conv2", h, channels)
    if ops.shape(x)[1] != channels:
        x = conv(ops, w / "conv_shortcut", x, channels, kernel=1)
    return x + h


def upsample(ops: Ops, w: View, x: Tensor, height: int, width: int) -> Tensor:
    """Nearest neighbour to (height, width), then a convolution. Channels stay."""
    channels, rows, columns = ops.shape(x)[1:]
    if (height, width) == (2 * rows, 2 * columns):
        weight = w("conv.weight", (channels, channels, 3, 3))
        return ops.conv2d_doubled(x, weight, w("conv.bias", (channels,)))
    return conv(ops, w / "conv", ops.resize_nearest(x, height, width), channels)
