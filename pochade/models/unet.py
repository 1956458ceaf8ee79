"""The conditional UNet, which predicts noise or v from a noisy latent, a timestep and text (Rombach et al.
2022)."""

from collections.abc import Sequence
from dataclasses import dataclass

from pochade.configs.networks import UNetConfig
from pochade.models.layers import (
    conv,
    group_norm,
    join_heads,
    layer_norm,
    linear,
    residual_block,
    split_heads,
    to_picture,
    to_tokens,
    upsample,
)
from pochade.ops import Ops, Tensor
from pochade.weights import View


def unet(
    ops: Ops,
    config: UNetConfig,
    w: View,
    x: Tensor,
    time: Tensor,
    context: Tensor,
    added: Tensor | None = None,
    guidance: Tensor | None = None,
    residuals: Sequence[Tensor] = (),
) -> Tensor:
    """Predict what the checkpoint was trained to predict (noise, or v).

    x: (B, in_channels, H, W). time: (B, widths[0]), the timestep embedded by `models.embedding`.
    context: (B, T, context_width), the conditioning. added: (B, added_width), XL's pooled text and sizes.
    guidance: (B, guidance_width), LCM's embedded guidance scale.
    residuals: the residuals of `models.controlnet`, added to the outputs of the down and middle blocks.

    Returns (B, out_channels, H, W). H and W need not be powers of two: the up blocks resize to the shapes of
    the down blocks.
    """
    t = embedded_time(ops, config, w, time, added, guidance)
    x, skips = down_and_middle(ops, config, w, x, t, context, residuals)
    x = way_up(ops, config, w / "up_blocks", x, skips, t, context, up_layers(config))
    return prediction(ops, config, w, x)


def down_and_middle(
    ops: Ops,
    config: UNetConfig,
    w: View,
    x: Tensor,
    time: Tensor,
    context: Tensor,
    residuals: Sequence[Tensor] = (),
) -> tuple[Tensor, list[Tensor]]:
    """Return the input of the up blocks and their skip connections. time: from `embedded_time`."""
    x = conv(ops, w / "conv_in", x, config.widths[0])
    x, skips = way_down(ops, config, w / "down_blocks", x, time, context)
    if config.mid_depth is not None:
        x = middle(ops, config, w / "mid_block", x, time, context, config.mid_depth)
    if residuals:
        skips = [skip + residual for skip, residual in zip(skips, residuals[:-1], strict=True)]
        x = x + residuals[-1]
    return x, skips


def prediction(ops: Ops, config: UNetConfig, w: View, x: Tensor) -> Tensor:
    """The output layers after the up blocks: (B, widths[0], H, W) -> (B, out_channels, H, W)."""
    x = ops.silu(group_norm(ops, w / "conv_norm_out", x, config.groups, config.norm_eps))
    return conv(ops, w / "conv_out", x, config.out_channels)


def embedded_time(
    ops: Ops,
    config: UNetConfig,
    w: View,
    time: Tensor,
    added: Tensor | None = None,
    guidance: Tensor | None = None,
) -> Tensor:
    """Return the activated time embedding (B, time_width), which every residual block adds."""
    if guidance is not None:
        time = time + linear(ops, w / "time_embedding.cond_proj", guidance, ops.shape(time)[-1], bias=False)
    t = _two_layers(ops, w / "time_embedding", time, config.time_width)
    if added is not None:
        t = t + _two_layers(ops, w / "add_embedding", added, config.time_width)
    return ops.silu(t)


def _two_layers(ops: Ops, w: View, x: Tensor, width: int) -> Tensor:
    return linear(ops, w / "linear_2", ops.silu(linear(ops, w / "linear_1", x, width)), width)


def way_down(
    ops: Ops,
    config: UNetConfig,
    w: View,
    x: Tensor,
    time: Tensor,
    context: Tensor,
    count: int | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """The down blocks. Returns the result and every intermediate output, for the skip connections.

    count: stop after so many outputs.
    """
    skips = [x]
    for level, (width, depths) in enumerate(zip(config.widths, config.down_depths, strict=True)):
        block = w / level
        for i, depth in enumerate(depths):
            if len(skips) == count:
                return x, skips
            x = _residual(ops, config, block / f"resnets.{i}", x, width, time)
            if depth:
                x = _transformer(
                    ops, config, block / f"attentions.{i}", x, context, config.heads[level], depth
                )
            skips.append(x)
        if level < len(config.widths) - 1 and len(skips) != count:
            x = conv(ops, block / "downsamplers.0.conv", x, width, stride=2, padding=(1, 1, 1, 1))
            skips.append(x)
    return x, skips


def middle(
    ops: Ops, config: UNetConfig, w: View, x: Tensor, time: Tensor, context: Tensor, depth: int
) -> Tensor:
    """The middle block, at the smallest resolution."""
    x = _residual(ops, config, w / "resnets.0", x, config.widths[-1], time)
    if depth:
        x = _transformer(ops, config, w / "attentions.0", x, context, config.heads[-1], depth)
        x = _residual(ops, config, w / "resnets.1", x, config.widths[-1], time)
    return x


@dataclass(frozen=True)
class UpLayer:
    """A layer of the up blocks: its level, counted from the smallest resolution, its number in the level, its
    transformer blocks, and whether upsampling follows."""

    level: int
    number: int
    depth: int
    doubled: bool


def up_layers(config: UNetConfig) -> list[UpLayer]:
    """Return the layers of the up blocks in order. Each joins one skip connection, the last one first."""
    return [
        UpLayer(level, number, depth, number == len(depths) - 1 and level < len(config.up_depths) - 1)
        for level, depths in enumerate(config.up_depths)
        for number, depth in enumerate(depths)
    ]


def way_up(
    ops: Ops,
    config: UNetConfig,
    w: View,
    x: Tensor,
    skips: Sequence[Tensor],
    time: Tensor,
    context: Tensor,
    layers: Sequence[UpLayer],
) -> Tensor:
    """Compute these layers in order. skips: outputs of the down blocks; the very last layer joins the
    first."""
    widths, heads = config.widths[::-1], config.heads[::-1]
    first = len(skips)
    for n, layer in enumerate(layers, 1):
        block, width = w / layer.level, widths[layer.level]
        x = ops.concat([x, skips[first - n]], axis=1)
        x = _residual(ops, config, block / f"resnets.{layer.number}", x, width, time)
        if layer.depth:
            of_heads = heads[layer.level]
            x = _transformer(
                ops, config, block / f"attentions.{layer.number}", x, context, of_heads, layer.depth
            )
        if layer.doubled:
            height, columns = ops.shape(skips[first - n - 1])[2:]
            x = upsample(ops, block / "upsamplers.0", x, height, columns)
    return x


def _residual(ops: Ops, config: UNetConfig, w: View, x: Tensor, width: int, time: Tensor) -> Tensor:
    return residual_block(ops, w, x, width, groups=config.groups, eps=config.norm_eps, time=time)


def _transformer(
    ops: Ops, config: UNetConfig, w: View, x: Tensor, context: Tensor, heads: int, depth: int
) -> Tensor:
    """Self-attention over the picture and cross-attention to the text: (B, C, H, W) -> (B, C, H, W)."""
    _, channels, height, width = ops.shape(x)
    h = group_norm(ops, w / "norm", x, config.groups, 1e-6)
    # A 1x1 convolution is a linear layer on tokens; only the shape it is stored in differs.
    if config.linear_projection:
        h = linear(ops, w / "proj_in", to_tokens(ops, h), channels)
    else:
        h = to_tokens(ops, conv(ops, w / "proj_in", h, channels, kernel=1))
    for i in range(depth):
        h = _transformer_block(ops, w / f"transformer_blocks.{i}", h, context, heads)
    if config.linear_projection:
        h = to_picture(ops, linear(ops, w / "proj_out", h, channels), height, width)
    else:
        h = conv(ops, w / "proj_out", to_picture(ops, h, height, width), channels, kernel=1)
    return x + h


def _transformer_block(ops: Ops, w: View, x: Tensor, context: Tensor, heads: int) -> Tensor:
    h = layer_norm(ops, w / "norm1", x)
    x = x + _attention(ops, w / "attn1", h, h, heads)
    x = x + _attention(ops, w / "attn2", layer_norm(ops, w / "norm2", x), context, heads)
    return x + _feed_forward(ops, w / "ff.net", layer_norm(ops, w / "norm3", x))


def _attention(ops: Ops, w: View, x: Tensor, context: Tensor, heads: int) -> Tensor:
    """Attention with queries from (B, T, D), keys and values from (B, S, E): -> (B, T, D)."""
    width = ops.shape(x)[-1]
    query = split_heads(ops, linear(ops, w / "to_q", x, width, bias=False), heads)
    key = split_heads(ops, linear(ops, w / "to_k", context, width, bias=False), heads)
    value = split_heads(ops, linear(ops, w / "to_v", context, width, bias=False), heads)
    return linear(ops, w / "to_out.0", join_heads(ops, ops.attention(query, key, value)), width)


def _feed_forward(ops: Ops, w: View, x: Tensor) -> Tensor:
    """GEGLU (Shazeer 2020): `value * gelu(gate)`. The two halves of the stored matrix are applied separately,
    so that no engine has to split the large activation."""
    width = ops.shape(x)[-1]
    inner = 4 * width
    halves = [
        ops.linear(
            x,
            w("0.proj.weight", (2 * inner, width), rows=slice(start, start + inner)),
            w("0.proj.bias", (2 * inner,), rows=slice(start, start + inner)),
        )
        for start in (0, inner)
    ]
    return linear(ops, w / "2", halves[0] * ops.gelu(halves[1]), width)
