"""ControlNet: conditions a UNet on a picture of edges, depth or a sketch (Zhang et al. 2023)."""

from dataclasses import dataclass

from pochade.configs.networks import ControlNetConfig, UNetConfig
from pochade.models.layers import conv
from pochade.models.unet import embedded_time, middle, unet, way_down
from pochade.ops import Ops, Tensor
from pochade.weights import View

RESIDUAL = "residual_"
"""Prefix of the residual inputs of `controlled_unet`, before their number."""


def embed_hint(ops: Ops, config: ControlNetConfig, w: View, picture: Tensor) -> Tensor:
    """Embed the control picture: (B, 3, H, W) in 0..1 -> (B, widths[0], H / factor, W / factor).

    The result is the same at every step.
    """
    v = w / "controlnet_cond_embedding"
    if config.blue_first:
        channels = range(config.picture_channels)[::-1]
        picture = ops.concat([ops.narrow(picture, 1, i, i + 1) for i in channels], axis=1)
    x = ops.silu(conv(ops, v / "conv_in", picture, config.hint_widths[0]))
    for i, (width, smaller) in enumerate(zip(config.hint_widths, config.hint_widths[1:], strict=False)):
        x = ops.silu(conv(ops, v / f"blocks.{2 * i}", x, width))
        x = conv(ops, v / f"blocks.{2 * i + 1}", x, smaller, stride=2, padding=(1, 1, 1, 1))
        x = ops.silu(x)
    return conv(ops, v / "conv_out", x, config.unet.widths[0])


def controlnet(
    ops: Ops,
    config: ControlNetConfig,
    w: View,
    x: Tensor,
    time: Tensor,
    context: Tensor,
    hint: Tensor,
    added: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Compute the residuals of a UNet's skip connections in order, then that of its middle block.

    x, time, context, added: as for `models.unet.unet`. hint: (1 or B, widths[0], H, W), from `embed_hint`.
    Zhang et al. 2023, figure 3; the "zero convolutions" are the 1x1 ones at the end.
    """
    t = embedded_time(ops, config.unet, w, time, added)
    x = conv(ops, w / "conv_in", x, config.unet.widths[0]) + hint
    x, skips = way_down(ops, config.unet, w / "down_blocks", x, t, context)
    if config.unet.mid_depth is not None:
        x = middle(ops, config.unet, w / "mid_block", x, t, context, config.unet.mid_depth)
    zero = w / "controlnet_down_blocks"
    residuals = [conv(ops, zero / i, skip, ops.shape(skip)[1], kernel=1) for i, skip in enumerate(skips)]
    last = conv(ops, w / "controlnet_mid_block", x, ops.shape(x)[1], kernel=1)
    return (*residuals, last)


def controlled_unet(ops: Ops, config: UNetConfig, w: View, **inputs: Tensor) -> Tensor:
    """`unet` with its residuals as inputs named residual_0, residual_1, ..., since engines take no lists."""
    names = [name for name in inputs if name.startswith(RESIDUAL)]
    residuals = [inputs.pop(f"{RESIDUAL}{i}") for i in range(len(names))]
    return unet(ops, config, w, residuals=residuals, **inputs)


@dataclass(frozen=True)
class ControlledConfig:
    """The configurations of a UNet and of the ControlNets that are evaluated with it."""

    unet: UNetConfig
    controlnets: tuple[ControlNetConfig, ...]


def unet_with_controlnets(
    ops: Ops,
    config: ControlledConfig,
    w: View,
    x: Tensor,
    time: Tensor,
    context: Tensor,
    added: Tensor | None = None,
    guidance: Tensor | None = None,
    extra: Tensor | None = None,
    **steering: Tensor,
) -> Tensor:
    """`unet` and its ControlNets in one function; residuals are scaled by each ControlNet's strength.

    Its weights are the parts "unet", "control_0", "control_1", ... extra: (B, C, H, W), what an inpainting
    model reads beside the latent x. steering: of ControlNet i `time_i` (B, widths[0]), `hint_i` (1 or B,
    widths[0], H, W) and `strength_i` (1, 1, 1, 1). The others are as in `models.unet.unet`.
    """
    residuals: list[Tensor] = []
    for i, of_one in enumerate(config.controlnets):
        own = {name: steering[f"{name}_{i}"] for name in ("time", "hint")}
        parts = controlnet(ops, of_one, w / f"control_{i}", x=x, context=context, added=added, **own)
        weighted = [part * steering[f"strength_{i}"] for part in parts]
        residuals = [a + b for a, b in zip(residuals, weighted, strict=True)] if residuals else weighted
    if extra is not None:
        x = ops.concat([x, extra], axis=1)
    return unet(ops, config.unet, w / "unet", x, time, context, added, guidance, residuals)
