"""Scenes of small objects composed in latent space, new ones for every step, with the position of each
object.

A latent cell depends on little beyond its own eight by eight pixels, and between two objects on white there
is white. So the latent of a scene is the latents of its objects side by side, and each small picture is
encoded only once for as many scenes as there are pairs. `losses.layout` uses the positions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from pochade.training.corpus import Corpus
from pochade.training.data import captions, scenes
from pochade.training.data.examples import Encode, Examples
from pochade.training.data.scenes import Relation, Scene

SMALL = (0.41, 0.49)
"""Side of a small object, as a share of the picture's: smallest and largest."""

PAIRS = 0.8
"""Share of pairs among these scenes; the others show two to four of one object."""

OPPOSITE: Mapping[Relation, Relation] = MappingProxyType(
    {"left": "right", "right": "left", "above": "below", "below": "above"}
)

Corner = tuple[int, int]
"""Row and column of a square's upper left cell in a latent."""


@dataclass(frozen=True)
class PlacedObject:
    """The position of an object in a sentence and in the latent.

    start, end: range of its characters. relation: to the other object. corner: of its area, which is half as
    high and half as wide as the latent.
    """

    start: int
    end: int
    relation: Relation
    corner: Corner


PlacedObjects = tuple[PlacedObject, ...]
"""The two objects of a sentence that states their relation, in its order; empty for other sentences."""


class PlacedExamples(Protocol):
    """Training examples with positions."""

    def batch(self, count: int, rng: Generator) -> tuple[torch.Tensor, list[str], list[PlacedObjects]]:
        """As in `Examples`, and the things of each sentence."""


@dataclass(frozen=True, kw_only=True)
class SmallObjects:
    """Scenes of things half as high and wide as a picture.

    groups: as in `scenes.plan`. latents: of each entry as it is and mirrored, (2, C, s, s).
    empty: of a white picture, (C, 2 s, 2 s).
    """

    corpus: Corpus
    groups: Sequence[Sequence[int]]
    latents: Mapping[int, torch.Tensor]
    empty: torch.Tensor

    def batch(self, count: int, rng: Generator) -> tuple[torch.Tensor, list[str], list[PlacedObjects]]:
        """As in `PlacedExamples`."""
        drawn = [self._scene(rng) for _ in range(count)]
        latents = [latent for latent, _, _ in drawn]
        stacked = torch.stack(latents) if latents else self.empty.new_empty((0, *self.empty.shape)).float()
        return stacked, [text for _, text, _ in drawn], [things for _, _, things in drawn]

    def _scene(self, rng: Generator) -> tuple[torch.Tensor, str, PlacedObjects]:
        entries = scenes.one_style(self.groups, rng)
        subject = entries[int(rng.integers(len(entries)))]
        make = scenes.pair if rng.random() < PAIRS else scenes.several
        scene = make(self.corpus, entries, subject, rng)
        side = self.empty.shape[-1] // 2
        corners = places(scene, side, rng)
        latent = self.empty.float().clone()
        for thing, (top, left) in zip(scene.subjects * scene.count, corners, strict=True):
            latent[:, top : top + side, left : left + side] = self.latents[thing][int(rng.integers(2))]
        text = scenes.describe(self.corpus, scene, rng)
        return latent, text, things(self.corpus, scene, text, corners)


def places(scene: Scene, side: int, rng: Generator) -> list[Corner]:
    """The corners of a scene's squares of `side` cells in a latent of twice as many."""
    line = side // 2 + int(rng.integers(-1, 2))  # half way down, or nearly
    if len(scene.subjects) == 2:
        along = (0, side) if scene.relation in ("left", "above") else (side, 0)
        beside = scene.relation in ("left", "right")
        return [(line, place) if beside else (place, line) for place in along]
    if scene.count == 2:
        return [(line, 0), (line, side)] if rng.random() < 0.6 else [(0, 0), (side, side)]
    upper = [(0, side // 2)] if scene.count == 3 else [(0, 0), (0, side)]
    return [*upper, (side, 0), (side, side)]


def things(corpus: Corpus, scene: Scene, text: str, corners: Sequence[Corner]) -> PlacedObjects:
    """What a scene's sentence says of places: `text` is one that `scenes.describe` gave."""
    if len(scene.subjects) < 2:
        return ()
    first, second = (captions.noun_phrase(corpus.entries[each]).lower() for each in scene.subjects)
    start = text.index(second, len(first))
    if text[len(first) : start].strip() == "and":
        return ()
    return (
        PlacedObject(0, len(first), scene.relation, corners[0]),
        PlacedObject(start, start + len(second), OPPOSITE[scene.relation], corners[1]),
    )


def small_objects(
    corpus: Corpus, groups: Sequence[Sequence[int]], side: int, encode: Encode, *, seed: int
) -> SmallObjects:
    """Encode every thing of the groups, as it is and mirrored, in the middle of a white picture."""
    entries = sorted(entry for group in groups for entry in group)

    def draw(number: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng((seed, number))
        return _alone(corpus, entries[number // 2], mirrored=number % 2 == 1, side=side, rng=rng)

    whole = encode("small", draw, 2 * len(entries))
    quarter = whole.shape[-1] // 4
    middle = slice(quarter, 3 * quarter)
    return SmallObjects(
        corpus=corpus,
        groups=groups,
        latents={
            entry: whole[2 * n : 2 * n + 2, :, middle, middle].float() for n, entry in enumerate(entries)
        },
        empty=encode("white", lambda number: np.full((side, side, 3), 255, np.uint8), 1)[0],
    )


def _alone(corpus: Corpus, index: int, *, mirrored: bool, side: int, rng: Generator) -> NDArray[np.uint8]:
    """A small thing in the middle of white: (side, side, 3)."""
    picture = corpus.picture(index)
    if mirrored and corpus.entries[index].mirrorable:
        picture = picture[:, ::-1]
    edge = round(float(rng.uniform(*SMALL)) * side)
    small = Image.fromarray(np.ascontiguousarray(picture)).resize((edge, edge), Image.Resampling.LANCZOS)
    sheet = Image.new("RGBA", (side, side), "white")
    sheet.alpha_composite(small, ((side - edge) // 2,) * 2)
    return np.asarray(sheet)[..., :3]


@dataclass(frozen=True, kw_only=True)
class WithSmallObjects:
    """A mixture of other examples, without positions, and scenes of small objects."""

    others: Examples
    small: SmallObjects
    share: float

    def batch(self, count: int, rng: Generator) -> tuple[torch.Tensor, list[str], list[PlacedObjects]]:
        """As in `PlacedExamples`."""
        small = int(rng.binomial(count, self.share))
        latents, texts = self.others.batch(count - small, rng)
        more, sentences, placed = self.small.batch(small, rng)
        return (
            torch.cat([latents, more]),
            [*texts, *sentences],
            [*([()] * (count - small)), *placed],
        )
