"""DeepCache: UNet evaluations that reuse the deep features of an earlier step (Ma et al. 2024).

Deep features hardly change from one step to the next, while those of the outer layers do.
`unet_with_features` computes the whole UNet and also returns the input of its last layers;
`unet_from_features` computes only these last layers.
"""

from pochade.configs.networks import UNetConfig
from pochade.models.layers import conv
from pochade.models.unet import down_and_middle, embedded_time, prediction, up_layers, way_down, way_up
from pochade.ops import Ops, Tensor
from pochade.weights import View


def unet_with_features(
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
    """As `unet`, but also return the features (B, C, h, w) that its last `layers` layers start from."""
    up = up_layers(config)
    t = embedded_time(ops, config, w, time, added, guidance)
    x, skips = down_and_middle(ops, config, w, x, t, context)
    deep = way_up(ops, config, w / "up_blocks", x, skips, t, context, up[:-layers])
    x = way_up(ops, config, w / "up_blocks", deep, skips[:layers], t, context, up[-layers:])
    return prediction(ops, config, w, x), deep


def unet_from_features(
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
    """As `unet`, but compute only the last `layers` layers of the up blocks, and the skips they need.

    deep: the features that `unet_with_features` returned at another step.
    """
    t = embedded_time(ops, config, w, time, added, guidance)
    x = conv(ops, w / "conv_in", x, config.widths[0])
    _, skips = way_down(ops, config, w / "down_blocks", x, t, context, count=layers)
    x = way_up(ops, config, w / "up_blocks", deep, skips, t, context, up_layers(config)[-layers:])
    return prediction(ops, config, w, x)
