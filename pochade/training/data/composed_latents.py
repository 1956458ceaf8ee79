"""Scenes of small objects composed in latent space, new ones for every step, with each object's position.

A latent cell depends mostly on its own 8 x 8 pixels, and objects are separated by white. So the latent of a
scene is assembled from the latents of its objects, and each small picture is encoded only once.
`losses.layout` uses the positions.
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
"""The minimum and maximum side of a small object, as a share of the picture's side."""

PAIRS = 0.8
"""Share of pairs among these scenes; the others show two to four copies of one object."""

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
        """As in `Examples`, and the positions of the objects of each sentence."""


@dataclass(frozen=True, kw_only=True)
class SmallObjects:
    """Scenes of objects half as high and wide as a picture.

    groups: as in `scenes.plan`. latents: of each entry, original and mirrored, (2, C, s, s).
    empty: latent of a white picture, (C, 2 s, 2 s).
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
        return stacked, [text for _, text, _ in drawn], [placed_objects for _, _, placed_objects in drawn]

    def _scene(self, rng: Generator) -> tuple[torch.Tensor, str, PlacedObjects]:
        entries = scenes.one_style(self.groups, rng)
        subject = entries[int(rng.integers(len(entries)))]
        make = scenes.pair if rng.random() < PAIRS else scenes.several
        scene = make(self.corpus, entries, subject, rng)
        side = self.empty.shape[-1] // 2
        corners = corners_of(scene, side, rng)
        latent = self.empty.float().clone()
        for thing, (top, left) in zip(scene.subjects * scene.count, corners, strict=True):
            latent[:, top : top + side, left : left + side] = self.latents[thing][int(rng.integers(2))]
        text = scenes.describe(self.corpus, scene, rng)
        return latent, text, placed_objects(self.corpus, scene, text, corners)


def corners_of(scene: Scene, side: int, rng: Generator) -> list[Corner]:
    """Return the corners of a scene's squares of `side` cells in a latent of twice that side."""
    line = side // 2 + int(rng.integers(-1, 2))  # the middle, give or take a cell
    if len(scene.subjects) == 2:
        offsets = (0, side) if scene.relation in ("left", "above") else (side, 0)
        horizontal = scene.relation in ("left", "right")
        return [(line, place) if horizontal else (place, line) for place in offsets]
    if scene.count == 2:
        return [(line, 0), (line, side)] if rng.random() < 0.6 else [(0, 0), (side, side)]
    upper = [(0, side // 2)] if scene.count == 3 else [(0, 0), (0, side)]
    return [*upper, (side, 0), (side, side)]


def placed_objects(corpus: Corpus, scene: Scene, text: str, corners: Sequence[Corner]) -> PlacedObjects:
    """Return the positions of the objects in a scene's sentence. text: from `scenes.describe`."""
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
    """Encode every object of the groups, original and mirrored, in the middle of a white picture."""
    entries = sorted(entry for group in groups for entry in group)

    def draw(number: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng((seed, number))
        return _draw_alone(corpus, entries[number // 2], mirrored=number % 2 == 1, side=side, rng=rng)

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


def _draw_alone(
    corpus: Corpus, index: int, *, mirrored: bool, side: int, rng: Generator
) -> NDArray[np.uint8]:
    """Draw a small object in the middle of a white picture: (side, side, 3)."""
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
