"""Choosing prompts from a training set."""

from dataclasses import replace

import numpy as np
import pytest

from pochade.evaluation import choose_prompts
from pochade.evaluation.choose_prompts import clear, held_out_prompts, plain
from pochade.evaluation.held_out import held_out
from pochade.training.corpus import Corpus
from tests.evaluation.conftest import COLOURS, drawn

RED = (200, 40, 40, 255)
STYLES = tuple(COLOURS)


def test_held_out_prompts_are_of_concepts_known_in_another_style(corpus: Corpus) -> None:
    prompts = held_out_prompts(corpus, STYLES, 200, np.random.default_rng(0))
    entries = {(entry.code, entry.style): entry for entry in corpus.entries}
    assert prompts
    for prompt in prompts:
        own = entries[prompt["code"], prompt["style"]]
        (other,) = (entries[own.code, style] for style in STYLES if style != own.style)
        assert held_out(own) and not held_out(other)
        assert prompt["prompt"] == f"a {own.label}, {own.style}"
    alone = [entry for entry in corpus.entries if entry.style == STYLES[0]]
    assert not held_out_prompts(replace(corpus, entries=tuple(alone)), STYLES, 9, np.random.default_rng(0))


def test_the_same_seed_chooses_the_same(corpus: Corpus) -> None:
    one, other, third = (
        choose_prompts.composed_prompts(corpus, STYLES, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert one == other != third
    assert len(one) == sum(choose_prompts.COMPOSED.values())


def test_composed_prompts_are_about_training_pictures(corpus: Corpus) -> None:
    pool = choose_prompts.familiar(corpus, STYLES)
    assert pool
    assert not any(held_out(corpus.entries[index]) for index in pool)


@pytest.mark.parametrize(
    ("label", "expected"),
    [("fox", True), ("bus stop", True), ("soap", False), ("red apple", False), ("old pink man", False)],
)
def test_plain_labels(corpus: Corpus, label: str, expected: bool) -> None:
    assert plain(replace(corpus.entries[0], label=label)) == expected


def test_clear_pictures_are_one_piece_that_stands_out() -> None:
    assert clear(drawn("disc", RED))
    assert not clear(drawn("disc", (250, 250, 250, 255)))
    apart = drawn("box", RED).copy()
    apart[:, 40:56] = 0
    assert not clear(apart)
