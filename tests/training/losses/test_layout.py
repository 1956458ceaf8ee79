"""The layout loss: minimal if every area attends to the words of its object."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import pochade
from pochade.diffusion.schedule import noise_schedule
from pochade.engines.torch import TorchOps
from pochade.models.unet import unet
from pochade.prompts.tokenizer_files import load_tokenizer
from pochade.training.data.composed_latents import PlacedObject, PlacedObjects
from pochade.training.losses import diffusion, layout
from pochade.training.losses.layout import (
    AttentionOps,
    PlacedSentences,
    attention_loss,
    placed_sentences,
    position_loss,
)
from pochade.weights import View
from tests.training.tiny import TEXT, UNET

TOKENIZER = load_tokenizer(Path(pochade.__file__).parent / "starter" / "tokenizer")
LEFT_OF = (PlacedObject(0, 5, "left", (0, 0)), PlacedObject(21, 27, "right", (0, 2)))
TEXTS = ["a fox, flat style", "a fox to the left of an owl, 3d style"]


def known() -> PlacedSentences:
    found = placed_sentences(TEXTS, [(), LEFT_OF], TOKENIZER, 4)
    assert found is not None
    return found


def test_words_and_squares_are_those_of_the_things() -> None:
    found = known()
    assert found.rows.tolist() == [1] and found.places.tolist() == [1]
    ids = [TOKENIZER.start_id, *TOKENIZER.encode(TEXTS[1])]
    for n, words in enumerate(("a fox", "an owl")):
        marked = found.words[0, n].nonzero().flatten().tolist()
        assert [ids[place] for place in marked] == TOKENIZER.encode(words)
    left = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert torch.equal(found.areas[0], torch.stack([left, left.flip(1)]))


def test_what_tells_no_places_or_is_too_long_is_left_out() -> None:
    assert placed_sentences(TEXTS[:1], [()], TOKENIZER, 4) is None
    long = "a fox to the left of " + "really " * 40 + "an owl"
    pair = (LEFT_OF[0], PlacedObject(len(long) - 6, len(long), "right", (0, 2)))
    assert placed_sentences([long], [pair], TOKENIZER, 4) is None


def test_looking_is_least_where_each_square_looks_at_its_own_words() -> None:
    found = known()
    own = found.areas.flatten(2).transpose(1, 2) @ found.words  # (1, T, S)
    own = own / own.sum(2, keepdim=True).clamp(min=1)
    swapped = found.areas.flip(1).flatten(2).transpose(1, 2) @ found.words
    swapped = swapped / swapped.sum(2, keepdim=True).clamp(min=1)
    elsewhere = torch.zeros_like(own)
    elsewhere[..., 0] = 1
    errors = [
        float(attention_loss([look[:, None]], found))
        for look in (own, (own + swapped) / 2, swapped, elsewhere)
    ]
    assert errors[0] < 0.001
    assert errors[1] == pytest.approx(layout.CONTRAST_WEIGHT * np.log(2), rel=0.01)
    assert errors[2] > 5 * errors[1]
    # no words at all: no wiser than chance, and a little worse for not reading
    assert errors[1] < errors[3] < errors[2]


def test_saying_is_about_the_second_things_words_alone() -> None:
    found = known()
    context = torch.zeros(1, TOKENIZER.max_length, 16, requires_grad=True)
    error = position_loss(context, found)
    assert float(error.detach()) == pytest.approx(np.log(4))
    (slope,) = torch.autograd.grad(error, context)
    assert torch.equal(slope[0].abs().sum(1) > 0, found.words[0, 1] > 0)
    assert float(position_loss((context - 100 * slope).detach(), found)) < 0.2


def test_watching_changes_nothing_and_notes_the_text_alone() -> None:
    weights = {
        name: tensor
        if tensor.any()
        else 0.2 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))
        for name, tensor in diffusion.initialize(TEXT, UNET, seed=0).items()
    }
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=generator) for shape in ((2, 4, 4, 4), (2, 8), (2, 6, 16))]
    watched = AttentionOps(6)
    plain, seen = (unet(ops, UNET, View(weights) / "unet", *inputs) for ops in (TorchOps(), watched))
    assert torch.allclose(plain, seen, atol=1e-5)
    assert [tuple(look.shape) for look in watched.maps] == [(2, 16, 6), (2, 4, 6), (2, 16, 6), (2, 16, 6)]
    for look in watched.maps:
        assert torch.allclose(look.sum(2), torch.ones(()))


@dataclass(frozen=True)
class Sentences:
    """Empty pictures of a fox and an owl, one to the left of the other, and what is told of their places."""

    told: bool

    def batch(
        self, count: int, rng: np.random.Generator
    ) -> tuple[torch.Tensor, list[str], list[PlacedObjects]]:
        texts, things = [], []
        for left in rng.random(count) < 0.5:
            here, there = ("left", "right") if left else ("right", "left")
            text = f"a fox to the {here} of an owl"
            corners = ((0, 0), (0, 2)) if left else ((0, 2), (0, 0))
            start = text.index("an owl")
            texts.append(text)
            things.append(
                (PlacedObject(0, 5, here, corners[0]), PlacedObject(start, start + 6, there, corners[1]))
            )
        return torch.zeros(count, 4, 4, 4), texts, things if self.told else [()] * count


def test_a_model_learns_where_to_look_and_what_words_say() -> None:
    text = replace(TEXT, vocabulary=len(TOKENIZER.vocabulary), positions=32, end_token=TOKENIZER.end_id)
    weights = diffusion.initialize(text, UNET, seed=0)
    taught, plain = (
        layout.loss(text, UNET, noise_schedule(), Sentences(told), TOKENIZER, batch=8)
        for told in (True, False)
    )

    def lesson() -> float:
        """What the two terms add to the error of the prediction."""
        with torch.no_grad():
            questions = [np.random.default_rng((7, seed)) for seed in range(4)]
            again = [np.random.default_rng((7, seed)) for seed in range(4)]
            return (
                float(
                    sum(taught(weights, rng) for rng in questions) - sum(plain(weights, rng) for rng in again)
                )
                / 4
            )

    for tensor in weights.values():
        tensor.requires_grad_(True)
    optimizer = torch.optim.Adam(weights.values(), lr=1e-2)
    before = lesson()
    for step in range(60):
        optimizer.zero_grad()
        taught(weights, np.random.default_rng((1, step))).backward()
        optimizer.step()
    chance = layout.CONTRAST_WEIGHT * np.log(2)
    assert before > chance
    assert lesson() < chance / 2
