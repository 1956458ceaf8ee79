"""Loss terms that train a diffusion model to place two objects correctly.

The denoising error alone hardly teaches it: a small model learns to draw two objects where two belong, and
each of them as a blend of both. For composed scenes the words that belong to each area are known, so the
cross-attention is supervised, as Wang et al. 2023 (TokenCompose) do with segmented photographs:

- the encoded words of the second object must predict its position (they follow "to the left of"; the first
  object's words cannot, since the text encoder is causal);
- the area of each object must attend to that object's words rather than the other's, in the UNet's up blocks
  (in the down blocks a location does not know its position yet; there the term stays at chance).

Without the first term the second one stays at chance for hundreds of steps, because neither the words nor
the locations carry anything yet that distinguishes the two objects.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from pochade.configs.networks import TextEncoderConfig, UNetConfig
from pochade.diffusion.schedule import NoiseSchedule
from pochade.engines.torch import TorchOps
from pochade.models.unet import unet
from pochade.prompts.tokenizer import Tokenizer
from pochade.training.data.composed_latents import PlacedExamples, PlacedObjects
from pochade.training.data.scenes import RELATIONS
from pochade.training.data.tokenizing import tokenize_with
from pochade.training.loop import Loss
from pochade.training.losses.diffusion import UNCAPTIONED, attention_for, read, with_noise
from pochade.training.parameters import Parameters
from pochade.training.precision import mixed_precision
from pochade.weights import View

CONTRAST_WEIGHT = 0.2
"""Weight of the term that prefers an object's own words to the other object's."""

READ_WEIGHT = 0.02
"""Weight of the term that prefers the words of objects to all other tokens."""

POSITION_WEIGHT = 0.1
"""Weight of `position_loss`."""

EPSILON = 1e-4
"""Added to attention shares, so that their logarithm stays finite."""


class AttentionOps(TorchOps):
    """The torch engine's operations, which also record the cross-attention maps.

    maps: (B, T, S) for each layer, T locations by S tokens, averaged over the heads.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.maps: list[torch.Tensor] = []

    def attention(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, causal: bool = False
    ) -> torch.Tensor:
        if causal or key.shape[2] != self.tokens:
            return super().attention(query, key, value, causal=causal)
        shares = (query @ key.transpose(2, 3) / math.sqrt(query.shape[3])).softmax(-1)
        self.maps.append(shares.float().mean(1))
        return shares @ value


@dataclass(frozen=True)
class PlacedSentences:
    """The R sentences of a batch that describe two objects and their relation.

    rows: (R,), indices into the batch. words: (R, 2, S), 1 for the tokens of a thing. areas: (R, 2, h, w),
    1 for the cells of the latent where it stands. places: (R,), the second thing's relation to the first, as
    a number in the order of RELATIONS.
    """

    rows: torch.Tensor
    words: torch.Tensor
    areas: torch.Tensor
    places: torch.Tensor


def placed_sentences(
    texts: Sequence[str],
    things: Sequence[PlacedObjects],
    tokenizer: Tokenizer,
    side: int,
    device: str = "cpu",
) -> PlacedSentences | None:
    """The supervision for the texts of a batch; None if there is none. side: of a latent.

    Sentences longer than the text encoder's context are left out.
    """
    relations = list(RELATIONS)
    rows, words, areas, places = [], [], [], []
    for row, (text, pair) in enumerate(zip(texts, things, strict=True)):
        spans = [_tokens(text, thing.start, thing.end, tokenizer) for thing in pair]
        if not pair or spans[-1].stop >= tokenizer.max_length:
            continue
        word, square = np.zeros((2, tokenizer.max_length)), np.zeros((2, side, side))
        for n, (thing, span) in enumerate(zip(pair, spans, strict=True)):
            (top, left), half = thing.corner, side // 2
            word[n, span] = 1
            square[n, top : top + half, left : left + half] = 1
        rows.append(row)
        words.append(word)
        areas.append(square)
        places.append(relations.index(pair[1].relation))
    if not rows:
        return None
    return PlacedSentences(
        torch.tensor(rows, device=device),
        torch.tensor(np.stack(words), dtype=torch.float32, device=device),
        torch.tensor(np.stack(areas), dtype=torch.float32, device=device),
        torch.tensor(places, device=device),
    )


def _tokens(text: str, start: int, end: int, tokenizer: Tokenizer) -> slice:
    """The token positions of a span of whole words, counting the start token."""
    return slice(1 + len(tokenizer.encode(text[:start])), 1 + len(tokenizer.encode(text[:end])))


def attention_loss(maps: Sequence[torch.Tensor], known: PlacedSentences) -> torch.Tensor:
    """Cross-attention loss: each area should attend to its own object's words. Returns a scalar.

    maps: as recorded by `AttentionOps`, for the rows of `known` only, each at K noise levels: (R, K, T, S).
    """
    error = torch.zeros((), device=known.rows.device)
    for attention in maps:
        side = math.isqrt(attention.shape[2])
        share = F.adaptive_avg_pool2d(known.areas, side).flatten(2)[:, None]  # (R, 1, 2, T), in a square
        own = torch.einsum("rkts,rns->rknt", attention, known.words) + EPSILON
        both = own.sum(2, keepdim=True)
        apart, unread = -(share * (own / both).log()).sum((2, 3)), -(share * both.log()).sum((2, 3))
        error = error + ((CONTRAST_WEIGHT * apart + READ_WEIGHT * unread) / share.sum((2, 3))).mean()
    return error / len(maps)


def position_loss(context: torch.Tensor, known: PlacedSentences) -> torch.Tensor:
    """Cross-entropy of the relation predicted from the second object's words along four fixed directions.

    context: (R, S, E), for the rows of `known` only. Returns a scalar.
    """
    generator = torch.Generator().manual_seed(3)
    directions = torch.randn(context.shape[-1], len(RELATIONS), generator=generator) / 10
    logits = (context.float() @ directions.to(context.device)).transpose(1, 2)  # (R, 4, S)
    errors = F.cross_entropy(logits, known.places[:, None].expand(-1, logits.shape[2]), reduction="none")
    return (errors * known.words[:, 1]).sum() / known.words[:, 1].sum()


def loss(
    text: TextEncoderConfig,
    picture: UNetConfig,
    schedule: NoiseSchedule,
    examples: PlacedExamples,
    tokenizer: Tokenizer,
    *,
    batch: int,
    repeats: int = 2,
    device: str = "cpu",
) -> Loss:
    """The v-prediction loss of `losses.diffusion`, plus `attention_loss` and `position_loss`."""
    kind = device.split(":")[0]
    tokenize = tokenize_with(tokenizer)

    def step(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
        ops, view = AttentionOps(tokenizer.max_length), View(parameters)
        latent, texts, things = examples.batch(batch // repeats, rng)
        captioned = [rng.random() >= UNCAPTIONED for _ in texts]
        ids, end = tokenize([one if there else "" for one, there in zip(texts, captioned, strict=True)])
        noisy = with_noise(
            latent, schedule, picture, rng, repeats=repeats, prediction="v_prediction", device=device
        )
        with mixed_precision(device), attention_for(kind):
            context = read(ops, text, view / "text_encoder", ids, end, device)
            each = context.repeat_interleave(repeats, dim=0)
            guess = unet(ops, picture, view / "unet", noisy.latent, noisy.time, each)
        error = noisy.error(guess)
        shown = [pair if there else () for pair, there in zip(things, captioned, strict=True)]
        known = placed_sentences(texts, shown, tokenizer, latent.shape[-1], device)
        if known is None:
            return error
        way_up = ops.maps[-sum(map(sum, picture.up_depths)) :]
        maps = [attention.unflatten(0, (-1, repeats))[known.rows] for attention in way_up]
        return (
            error + attention_loss(maps, known) + POSITION_WEIGHT * position_loss(context[known.rows], known)
        )

    return step
