"""The UNet without most of itself: what its deep layers gave at a neighbouring step is used once more.

From one step to the next the deep features of a drawing hardly change, while the first and the last layers,
which see the latent itself, do (Ma et al. 2024, "DeepCache"). `unet_keeping` computes everything and hands
out what the last layers of the way up began with; `unet_again` begins there.
"""

from pochade.models.config import UNetConfig
from pochade.models.layers import conv
from pochade.models.unet import down_and_middle, embedded_time, prediction, up_layers, way_down, way_up
from pochade.ops import Ops, Tensor
from pochade.weights import View


def unet_keeping(
    ops: Ops,
    config: UNetConfig,
    w: View,
    x: Tensor,
    time: Tensor,
    context: Tensor,
    added: Tensor | None = None,
    guidance: Tensor | None = None,
    *,
    layers: int,
) -> tuple[Tensor, Tensor]:
    """As `unet`, and what its last `layers` layers began with: (B, C, h, w), as large as their pictures."""
    up = up_layers(config)
    t = embedded_time(ops, config, w, time, added, guidance)
    x, skips = down_and_middle(ops, config, w, x, t, context)
    deep = way_up(ops, config, w / "up_blocks", x, skips, t, context, up[:-layers])
    x = way_up(ops, config, w / "up_blocks", deep, skips[:layers], t, context, up[-layers:])
    return prediction(ops, config, w, x), deep


def unet_again(
    ops: Ops,
    config: UNetConfig,
    w: View,
    x: Tensor,
    time: Tensor,
    context: Tensor,
    deep: Tensor,
    added: Tensor | None = None,
    guidance: Tensor | None = None,
    *,
    layers: int,
) -> Tensor:
    """As `unet`, but only its last `layers` layers on the way up, and what these join, are computed.

    deep: what `unet_keeping` handed out at another step.
    """
    t = embedded_time(ops, config, w, time, added, guidance)
    x = conv(ops, w / "conv_in", x, config.widths[0])
    _, skips = way_down(ops, config, w / "down_blocks", x, t, context, count=layers)
    x = way_up(ops, config, w / "up_blocks", deep, skips, t, context, up_layers(config)[-layers:])
    return prediction(ops, config, w, x)
