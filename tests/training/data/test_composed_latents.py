"""Scenes composed in latent space: positions match the sentence."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pochade.training.data.composed_latents import (
    SmallObjects,
    WithSmallObjects,
    corners_of,
    placed_objects,
    small_objects,
)
from pochade.training.data.examples import uniform_latents
from pochade.training.data.scenes import Scene
from tests.training.data.test_scenes import CORPUS, GROUPS, components

SIDE = 128


def encode(name: str, draw: Callable[[int], NDArray[np.uint8]], count: int) -> torch.Tensor:
    """A latent that is the picture itself, eight times smaller: (count, 3, h, w), colours of 0..255."""
    pictures = np.stack([draw(number) for number in range(count)]).astype(np.float32)
    cells = pictures.reshape(count, SIDE // 8, 8, SIDE // 8, 8, 3).mean(axis=(2, 4))
    return torch.from_numpy(cells).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def small() -> SmallObjects:
    return small_objects(CORPUS, GROUPS, SIDE, encode, seed=0)


def named(text: str) -> int:
    """The entry whose phrase this is."""
    return next(
        n
        for n, entry in enumerate(CORPUS.entries)
        if entry.label == text.removeprefix("an ").removeprefix("a ")
    )


def test_each_thing_of_a_pair_stands_where_its_words_say(small: SmallObjects) -> None:
    latents, texts, placed = small.batch(200, np.random.default_rng(0))
    assert latents.shape == (200, 3, 16, 16) and latents.dtype == torch.float32
    seen = set()
    for latent, text, pair in zip(latents, texts, placed, strict=True):
        for thing in pair:
            top, left = thing.corner
            colour = CORPUS.colours[named(text[thing.start : thing.end])]
            assert np.abs(latent[:, top + 4, left + 4].numpy() - colour).max() < 2
            seen.add(thing.relation)
            low, axis = (8, 1) if thing.relation in ("left", "right") else (8, 0)
            assert (thing.corner[axis] >= low) == (thing.relation in ("right", "below"))
        if pair:
            assert pair[0].end < pair[1].start
            words = text[pair[0].end : pair[1].start].split()
            said = {
                "left": {"left"},
                "right": {"right"},
                "above": {"above", "over"},
                "below": {"below", "under"},
            }
            assert said[pair[0].relation] & set(words)
    assert seen == {"left", "right", "above", "below"}


def test_a_sentence_that_tells_no_places_has_none(small: SmallObjects) -> None:
    _, texts, placed = small.batch(200, np.random.default_rng(1))
    silent = [text for text, pair in zip(texts, placed, strict=True) if not pair]
    assert any(" and " in text for text in silent)
    assert not any(" and " in text for text, pair in zip(texts, placed, strict=True) if pair)
    assert any(text.startswith(("two ", "three ", "four ")) for text in silent)


def test_several_of_one_thing_are_as_many(small: SmallObjects) -> None:
    latents, texts, _ = small.batch(100, np.random.default_rng(2))
    counted = [n for n, text in enumerate(texts) if text.startswith(("two ", "three ", "four "))]
    assert counted
    for n in counted:
        number = ("two", "three", "four").index(texts[n].split()[0]) + 2
        assert components((latents[n].numpy() < 140).any(axis=0)) == number


def test_squares_do_not_overlap_and_fit() -> None:
    scenes = [Scene(subjects=(0, 1), relation=relation) for relation in ("left", "right", "above", "below")]
    scenes += [Scene(subjects=(0,), count=count) for count in (2, 3, 4)]
    for scene in scenes:
        for seed in range(20):
            sheet = np.zeros((16, 16), int)
            for top, left in corners_of(scene, 8, np.random.default_rng(seed)):
                assert 0 <= top <= 8 and 0 <= left <= 8
                sheet[top : top + 8, left : left + 8] += 1
            assert sheet.max() == 1


def test_the_words_of_things_are_found_in_any_sentence() -> None:
    scene = Scene(subjects=(0, 3), relation="below")
    first, second = placed_objects(CORPUS, scene, "a fox under an owl, 3d style", [(8, 4), (0, 4)])
    assert (first.start, first.end, first.relation, first.corner) == (0, 5, "below", (8, 4))
    assert (second.start, second.end, second.relation, second.corner) == (12, 18, "above", (0, 4))


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_small_things_are_a_share_of_the_examples(small: SmallObjects, share: float) -> None:
    others = uniform_latents(torch.zeros(5, 3, 16, 16).half(), lambda number, rng: "another")
    mixed = WithSmallObjects(others=others, small=small, share=share)
    latents, texts, placed = mixed.batch(200, np.random.default_rng(0))
    assert len(latents) == len(texts) == len(placed) == 200
    of_others = [text == "another" for text in texts]
    assert [bool((latent == 0).all()) for latent in latents] == of_others
    assert abs(1 - np.mean(of_others) - share) < 0.1
    assert not any(pair for pair, other in zip(placed, of_others, strict=True) if other)
