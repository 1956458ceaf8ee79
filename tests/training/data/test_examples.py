"""Examples: every latent keeps its own caption, and each set is encoded once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pochade.training.data.examples import (
    Draw,
    LatentSet,
    cached_encoder,
    composed_pictures,
    mixture,
    single_pictures,
    uniform_latents,
)
from tests.training.data.test_captions import entry
from tests.training.data.test_scenes import CORPUS, GROUPS


def numbered(first: int, count: int) -> LatentSet:
    """Latent n is full of `first + n`, and its caption says so."""
    latents = torch.arange(first, first + count).float().view(-1, 1, 1, 1).half()
    return uniform_latents(latents, lambda number, rng: str(first + number))


def means(name: str, draw: Draw, count: int) -> torch.Tensor:
    """An encoder whose latent is the mean colour."""
    pictures = [draw(number).mean(axis=(0, 1)) for number in range(count)]
    return torch.from_numpy(np.stack(pictures)).view(count, 3, 1, 1)


def test_latents_and_captions_stay_together() -> None:
    shown = mixture([numbered(0, 5), numbered(100, 7)], [1, 1])
    latents, captions = shown.batch(64, np.random.default_rng(0))
    assert latents.dtype == torch.float32 and latents.shape == (64, 1, 1, 1)
    assert [f"{value:g}" for value in latents.flatten().tolist()] == captions


def test_sets_are_drawn_by_their_weights_and_not_by_their_sizes() -> None:
    shown = mixture([numbered(0, 10), numbered(1000, 90)], [3, 1])
    rng = np.random.default_rng(0)
    drawn = np.concatenate([shown.batch(1, rng)[0].flatten() for _ in range(2000)])
    assert (drawn < 1000).mean() == pytest.approx(0.75, abs=0.04)


def test_a_batch_has_no_picture_twice() -> None:
    latents, _ = numbered(0, 16).batch(16, np.random.default_rng(3))
    assert len(set(latents.flatten().tolist())) == 16
    assert len(numbered(0, 2).batch(5, np.random.default_rng(3))[1]) == 5


def test_single_pictures_come_with_their_mirror_image_where_it_is_true() -> None:
    def framed(index: int) -> NDArray[np.uint8]:
        picture = np.zeros((2, 2, 3), np.uint8)
        picture[:, 0] = 10 * (index + 1)  # the left half
        return picture

    def left(name: str, draw: Draw, count: int) -> torch.Tensor:
        return torch.tensor([int(draw(number)[0, 0, 0]) for number in range(count)]).view(count, 1, 1, 1)

    corpus: Any = replace(CORPUS, entries=(entry("fox", mirrorable=False), entry("owl"), *CORPUS.entries[2:]))
    shown = single_pictures(corpus, [0, 1], framed, left)
    assert shown.latents.flatten().tolist() == [10, 10, 20, 0]
    said = [shown.caption(number, np.random.default_rng(1)) for number in range(4)]
    assert ["fox" in words for words in said] == [True, True, False, False]


def test_scenes_depend_on_seed_and_number_alone() -> None:
    few = composed_pictures(CORPUS, GROUPS, 3, 32, means, seed=4)
    more = composed_pictures(CORPUS, GROUPS, 5, 32, means, seed=4)
    other = composed_pictures(CORPUS, GROUPS, 3, 32, means, seed=5)
    assert torch.equal(few.latents, more.latents[:3])
    assert not torch.equal(few.latents, other.latents)
    assert few.caption(2, np.random.default_rng(0)) == more.caption(2, np.random.default_rng(0))


def test_a_set_is_encoded_once_until_its_key_changes(tmp_path: Path) -> None:
    calls = []

    def encode(name: str, draw: Draw, count: int) -> torch.Tensor:
        calls.append(name)
        return torch.full((count, 1, 1, 1), 7.0).half()

    def never(number: int) -> NDArray[np.uint8]:
        raise AssertionError("drawn though the latents are there")

    first = cached_encoder(encode, tmp_path, "a")("single", never, 3)
    again = cached_encoder(encode, tmp_path, "a")("single", never, 3)
    assert torch.equal(first, again) and calls == ["single"]
    cached_encoder(encode, tmp_path, "b")("single", never, 3)
    cached_encoder(encode, tmp_path, "a")("composed", never, 3)
    assert calls == ["single", "single", "composed"]


def test_an_interrupted_encoding_goes_on_where_it_was(tmp_path: Path) -> None:
    drawn: list[int] = []

    def draw(number: int) -> NDArray[np.uint8]:
        if number == 5 and len(drawn) < 6:
            raise KeyboardInterrupt
        drawn.append(number)
        return np.full((2, 2, 3), number, np.uint8)

    with pytest.raises(KeyboardInterrupt):
        cached_encoder(means, tmp_path, "a", part=2)("single", draw, 7)
    assert drawn == [0, 1, 2, 3, 4]
    drawn.append(-1)
    latents = cached_encoder(means, tmp_path, "a", part=2)("single", draw, 7)
    assert latents[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert drawn[6:] == [4, 5, 6]


def test_other_scenes_are_encoded_anew(tmp_path: Path) -> None:
    names: list[str] = []

    def encode(name: str, draw: Draw, count: int) -> torch.Tensor:
        names.append(name)
        return means(name, draw, count)

    for seed in (0, 1, 0):
        composed_pictures(CORPUS, GROUPS, 4, 32, encode, seed=seed)
    assert names[0] == names[2] != names[1]
