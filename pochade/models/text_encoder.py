"""CLIP's text transformer, which turns token ids into conditioning (Radford et al. 2021)."""

from pochade.configs.networks import TextEncoderConfig
from pochade.models.layers import join_heads, layer_norm, linear, split_heads
from pochade.ops import Ops, Tensor
from pochade.weights import View


def text_encoder(
    ops: Ops,
    config: TextEncoderConfig,
    w: View,
    ids: Tensor,
    end: Tensor,
    *,
    skip: int = 0,
    final_norm: bool = True,
) -> tuple[Tensor, Tensor]:
    """Encode prompts.

    ids: (B, T) tokens; end: (B,) position of each row's end token, where the pooled vector is read.
    skip: leave out this many of the last layers for the conditioning ("clip skip" minus one).
    final_norm: whether the conditioning passes the final norm (SD 1.x and 2.x do, XL does not).

    Returns the conditioning (B, T, width) and the pooled vector (B, width or projection_width).
    """
    x = ops.embedding(ids, w("embeddings.token_embedding.weight", (config.vocabulary, config.width)))
    tokens = ops.shape(x)[1]
    positions = w(
        "embeddings.position_embedding.weight", (config.positions, config.width), rows=slice(0, tokens)
    )
    x = x + positions
    conditioning = x
    for i in range(config.layers):
        x = _layer(ops, config, w / f"encoder.layers.{i}", x)
        if i == config.layers - 1 - skip:
            conditioning = x
    last = layer_norm(ops, w / "final_layer_norm", x, config.norm_eps)
    if final_norm:
        conditioning = (
            last if skip == 0 else layer_norm(ops, w / "final_layer_norm", conditioning, config.norm_eps)
        )
    pooled = ops.pick(last, end)
    if config.projection_width is not None:
        pooled = linear(ops, w / "text_projection", pooled, config.projection_width, bias=False)
    return conditioning, pooled


def _layer(ops: Ops, config: TextEncoderConfig, w: View, x: Tensor) -> Tensor:
    h = layer_norm(ops, w / "layer_norm1", x, config.norm_eps)
    query, key, value = (
        split_heads(ops, linear(ops, w / f"self_attn.{name}_proj", h, config.width), config.heads)
        for name in "qkv"
    )
    h = join_heads(ops, ops.attention(query, key, value, causal=True))
    x = x + linear(ops, w / "self_attn.out_proj", h, config.width)
    h = layer_norm(ops, w / "layer_norm2", x, config.norm_eps)
    h = linear(ops, w / "mlp.fc1", h, config.feed_forward_width)
    h = ops.quick_gelu(h) if config.activation == "quick_gelu" else ops.gelu(h)
    return x + linear(ops, w / "mlp.fc2", h, config.width)
