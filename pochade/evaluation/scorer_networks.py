"""The networks of the scorer: pictures and texts meet in a space of concepts, pictures and styles in another.

"a fox" is near every fox in the first space, "flat style" near every flat picture in the second. Apart,
neither can make up for the other.
"""

from dataclasses import asdict, dataclass
from typing import Any

from pochade.models.layers import conv, group_norm, layer_norm, linear, residual_block
from pochade.ops import Ops, Tensor
from pochade.weights import View

GROUPS = 8
EPS = 1e-5


@dataclass(frozen=True, kw_only=True)
class ScorerConfig:
    """Sizes of the scorer.

    words: how many numbers `Words` gives. length: words read of a text.
    textures: how many numbers `texture` gives. style_hidden: of the layer between them and the space.
    styles: how many there are to tell apart. side: of the pictures, px.
    widths, blocks: channels and residual blocks of each level; sides halve.
    concept_width, style_width: of the two spaces.
    """

    words: int
    textures: int
    styles: int
    length: int = 12
    word_width: int = 128
    side: int = 64
    widths: tuple[int, ...] = (32, 64, 128, 192)
    blocks: tuple[int, ...] = (1, 1, 2, 1)
    concept_width: int = 192
    style_hidden: int = 64
    style_width: int = 32

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "ScorerConfig":
        values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in fields.items()}
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


def picture_tower(ops: Ops, config: ScorerConfig, w: View, picture: Tensor) -> Tensor:
    """What is shown: (B, 3, side, side) in -1..1 -> (B, concept_width)."""
    w = w / "picture"
    x = conv(ops, w / "stem", picture, config.widths[0], kernel=4, stride=2, padding=(1, 1, 1, 1))
    for level, (channels, blocks) in enumerate(zip(config.widths, config.blocks, strict=True)):
        if level:
            x = conv(ops, w / "down" / level, x, channels, stride=2, padding=(1, 1, 1, 1))
        for block in range(blocks):
            x = residual_block(ops, w / "levels" / level / block, x, channels, groups=GROUPS, eps=EPS)
    x = ops.silu(group_norm(ops, w / "norm", x, GROUPS, EPS))
    x = ops.reshape(x, (ops.shape(x)[0], -1))
    return linear(ops, w / "concept", x, config.concept_width)


def style_tower(ops: Ops, config: ScorerConfig, w: View, texture: Tensor) -> Tensor:
    """How it is drawn: (B, textures) -> (B, style_width)."""
    w = w / "style"
    x = linear(ops, w / "texture", texture, config.style_hidden)
    return linear(ops, w / "place", ops.silu(x), config.style_width)


def text_tower(ops: Ops, config: ScorerConfig, w: View, words: Tensor, shares: Tensor) -> Tensor:
    """Rows of words (B, length) and their shares (B, length, 1) -> (B, concept_width).

    Each word with its place is mixed alone, then all are added: light, and "left" before "right" is another
    text than "right" before "left". shares: 1 / words of the text, and 0 where there is none.
    """
    w = w / "text"
    batch = ops.shape(words)[0]
    x = ops.embedding(words, w("word_embedding.weight", (config.words, config.word_width)))
    x = x + w("place_embedding.weight", (config.length, config.word_width))
    x = ops.silu(linear(ops, w / "each", x, 2 * config.word_width)) * shares
    parts = [ops.narrow(x, 1, place, place + 1) for place in range(config.length)]
    x = ops.reshape(sum(parts[1:], start=parts[0]), (batch, 2 * config.word_width))
    x = ops.silu(linear(ops, w / "all", layer_norm(ops, w / "norm", x), 2 * config.word_width))
    return linear(ops, w / "concept", x, config.concept_width)
