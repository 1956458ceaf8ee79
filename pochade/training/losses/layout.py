"""Teaching a diffusion model which of two things stands where.

The error of the prediction alone hardly tells it: a small model learns to draw two things where two belong,
and each of them as a blend of both. Of scenes that were put together it is known where each place of the
picture should look in the text, so that is taught, as Wang et al. 2023 (TokenCompose) do with segmented
photographs:

- the words of the second thing tell its place by themselves (they come after "to the left of"; the first
  thing's words, of a text that is read from left to right, cannot);
- the square of each thing looks at that thing's words rather than the other's, in the UNet's way up (on the
  way down a place does not know yet where in the picture it is; there this stays at chance).

Without the first term the second one stays at chance for hundreds of steps: neither the words nor the places
have anything yet by which the other could tell them apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from pochade.diffusion.schedule import NoiseSchedule
from pochade.engines.torch import TorchOps
from pochade.models.config import TextEncoderConfig, UNetConfig
from pochade.models.unet import unet
from pochade.prompts.tokenizer import Tokenizer
from pochade.training.data.composed_latents import PlacedExamples, Things
from pochade.training.data.scenes import RELATIONS
from pochade.training.data.tokenizing import tokenize_with
from pochade.training.loop import Loss
from pochade.training.losses.diffusion import UNCAPTIONED, attention_for, read, with_noise
from pochade.training.parameters import Parameters
from pochade.training.precision import mixed_precision
from pochade.weights import View

TELLS_APART = 0.2
"""Weight of how much more a square looks at its own thing's words than at the other's."""

READS = 0.02
"""Weight of how much a square looks at the words of things at all, and not at what sums the sentence up."""

SAYS_PLACE = 0.1
"""Weight of the places that words tell."""

LEAST = 1e-4
"""Of the attention that words get: what keeps its logarithm finite."""


class AttentionOps(TorchOps):
    """The torch engine's vocabulary, which notes where the places of a picture look in a text.

    looks: (B, T, S) for each layer, T places by S tokens, the mean over the heads.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.looks: list[torch.Tensor] = []

    def attention(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, causal: bool = False
    ) -> torch.Tensor:
        if causal or key.shape[2] != self.tokens:
            return super().attention(query, key, value, causal=causal)
        shares = (query @ key.transpose(2, 3) / math.sqrt(query.shape[3])).softmax(-1)
        self.looks.append(shares.float().mean(1))
        return shares @ value


@dataclass(frozen=True)
class PlacedSentences:
    """The sentences of a batch that tell places: R of them, each of two things.

    rows: (R,), which of the batch. words: (R, 2, S), 1 for the tokens of a thing. squares: (R, 2, h, w),
    1 for the cells of the latent where it stands. places: (R,), the second thing's relation to the first, as
    a number in the order of RELATIONS.
    """

    rows: torch.Tensor
    words: torch.Tensor
    squares: torch.Tensor
    places: torch.Tensor


def placed(
    texts: Sequence[str], things: Sequence[Things], tokenizer: Tokenizer, side: int, device: str = "cpu"
) -> PlacedSentences | None:
    """What is known of the texts of a batch; None if it is nothing. side: of a latent.

    A sentence that the model cannot read to the end tells nothing.
    """
    relations = list(RELATIONS)
    rows, words, squares, places = [], [], [], []
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
        squares.append(square)
        places.append(relations.index(pair[1].relation))
    if not rows:
        return None
    return PlacedSentences(
        torch.tensor(rows, device=device),
        torch.tensor(np.stack(words), dtype=torch.float32, device=device),
        torch.tensor(np.stack(squares), dtype=torch.float32, device=device),
        torch.tensor(places, device=device),
    )


def _tokens(text: str, start: int, end: int, tokenizer: Tokenizer) -> slice:
    """The tokens of some whole words, the token of the beginning counted."""
    return slice(1 + len(tokenizer.encode(text[:start])), 1 + len(tokenizer.encode(text[:end])))


def looking(looks: Sequence[torch.Tensor], known: PlacedSentences) -> torch.Tensor:
    """How far the squares are from looking at their own things' words, a scalar.

    looks: as `Watched` notes them, of the rows of `known` alone and each at K noise levels: (R, K, T, S).
    """
    error = torch.zeros((), device=known.rows.device)
    for look in looks:
        side = math.isqrt(look.shape[2])
        share = F.adaptive_avg_pool2d(known.squares, side).flatten(2)[:, None]  # (R, 1, 2, T), in a square
        own = torch.einsum("rkts,rns->rknt", look, known.words) + LEAST
        both = own.sum(2, keepdim=True)
        apart, unread = -(share * (own / both).log()).sum((2, 3)), -(share * both.log()).sum((2, 3))
        error = error + ((TELLS_APART * apart + READS * unread) / share.sum((2, 3))).mean()
    return error / len(looks)


def saying(context: torch.Tensor, known: PlacedSentences) -> torch.Tensor:
    """How far the second things' words are from telling their place along four fixed directions, a scalar.

    context: (R, S, E), of the rows of `known` alone.
    """
    generator = torch.Generator().manual_seed(3)
    directions = torch.randn(context.shape[-1], len(RELATIONS), generator=generator) / 10
    told = (context.float() @ directions.to(context.device)).transpose(1, 2)  # (R, 4, S)
    errors = F.cross_entropy(told, known.places[:, None].expand(-1, told.shape[2]), reduction="none")
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
    """The error of v, as in `losses.diffusion`, and of where squares look and what words tell."""
    kind = device.split(":")[0]
    tokenize = tokenize_with(tokenizer)

    def step(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
        ops, view = AttentionOps(tokenizer.max_length), View(parameters)
        latent, texts, things = examples.batch(batch // repeats, rng)
        said = [rng.random() >= UNCAPTIONED for _ in texts]
        ids, end = tokenize([one if there else "" for one, there in zip(texts, said, strict=True)])
        noisy = with_noise(
            latent, schedule, picture, rng, repeats=repeats, prediction="v_prediction", device=device
        )
        with mixed_precision(device), attention_for(kind):
            context = read(ops, text, view / "text_encoder", ids, end, device)
            each = context.repeat_interleave(repeats, dim=0)
            guess = unet(ops, picture, view / "unet", noisy.latent, noisy.time, each)
        error = noisy.error(guess)
        told = [pair if there else () for pair, there in zip(things, said, strict=True)]
        known = placed(texts, told, tokenizer, latent.shape[-1], device)
        if known is None:
            return error
        way_up = ops.looks[-sum(map(sum, picture.up_depths)) :]
        looks = [look.unflatten(0, (-1, repeats))[known.rows] for look in way_up]
        return error + looking(looks, known) + SAYS_PLACE * saying(context[known.rows], known)

    return step
