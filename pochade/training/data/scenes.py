"""Composed pictures: cut-outs on plain backgrounds, with true sentences about them.

They teach colour, number, position and background, which single pictures cannot. A scene is first planned
(`plan`), then drawn (`draw`) and described (`describe`) any number of times.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from pochade.training.corpus import Corpus
from pochade.training.data import captions
from pochade.training.data.recolouring import TINTS, recoloured

T = TypeVar("T")

Relation = Literal["", "left", "right", "above", "below"]

RELATIONS: dict[Relation, tuple[str, ...]] = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
"""The position of the first object relative to the second, and its wordings."""

BACKGROUNDS = {
    "white": (255, 255, 255),
    "light blue": (190, 225, 250),
    "blue": (70, 130, 220),
    "light green": (200, 240, 195),
    "green": (80, 175, 95),
    "yellow": (252, 222, 95),
    "orange": (250, 170, 85),
    "pink": (250, 195, 215),
    "red": (220, 75, 70),
    "purple": (165, 120, 215),
    "gray": (200, 200, 205),
    "brown": (150, 105, 75),
    "black": (30, 30, 35),
}
"""Names of plain backgrounds and their sRGB colours."""

MAX_COPIES = 4
"""The maximum number of copies of one object in a scene."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The content of a composed picture.

    subjects: entries of the corpus, one or two.  count: number of copies of a single subject.
    tint: the new colour of a single subject ("" = unchanged).
    relation: of the first subject to the second.  background: a name of BACKGROUNDS.
    """

    subjects: tuple[int, ...]
    count: int = 1
    tint: str = ""
    relation: Relation = ""
    background: str = "white"


def plan(corpus: Corpus, groups: Sequence[Sequence[int]], rng: Generator) -> Scene:
    """Plan a scene: 10 % single objects, 25 % recoloured, 15 % several copies, 50 % pairs.

    groups: entries that may share a picture, one list for each style.
    """
    entries = one_style(groups, rng)
    kind = rng.random()
    background = "white" if rng.random() < 0.35 else _one_of(list(BACKGROUNDS), rng)
    subject = _one_of(entries, rng)
    if kind < 0.1:
        return Scene(subjects=(subject,), background=background)
    if kind < 0.35:
        return replace(_tinted(corpus, entries, rng), background=background)
    if kind < 0.5:
        return replace(several(corpus, entries, subject, rng), background=background)
    return replace(pair(corpus, entries, subject, rng), background=background)


def one_style(groups: Sequence[Sequence[int]], rng: Generator) -> Sequence[int]:
    """Choose a group with a probability proportional to its size."""
    sizes = np.array([len(group) for group in groups], np.float64)
    return groups[int(rng.choice(len(groups), p=sizes / sizes.sum()))]


def several(corpus: Corpus, entries: Sequence[int], subject: int, rng: Generator) -> Scene:
    """Plan several copies of one object on white: of `subject` if it is countable."""
    while not captions.countable(corpus.entries[subject]):
        subject = _one_of(entries, rng)
    return Scene(subjects=(subject,), count=int(rng.integers(2, MAX_COPIES + 1)))


def pair(corpus: Corpus, entries: Sequence[int], subject: int, rng: Generator) -> Scene:
    """Plan `subject` and another object on white."""
    other = subject
    while corpus.entries[other].label == corpus.entries[subject].label:
        other = _one_of(entries, rng)
    return Scene(subjects=(subject, other), relation=_one_of(list(RELATIONS), rng))


def _one_of(choices: Sequence[T], rng: Generator) -> T:
    return choices[int(rng.integers(len(choices)))]


def _tinted(corpus: Corpus, entries: Sequence[int], rng: Generator, attempts: int = 200) -> Scene:
    for _ in range(attempts):
        subject, tint = _one_of(entries, rng), _one_of(list(TINTS), rng)
        if (
            captions.may_name_colour(corpus.entries[subject])
            and recoloured(corpus.picture(subject), tint) is not None
        ):
            return Scene(subjects=(subject,), tint=tint)
    return Scene(subjects=(_one_of(entries, rng),))


def draw(corpus: Corpus, scene: Scene, rng: Generator, side: int) -> NDArray[np.uint8]:
    """Draw the scene (side, side, 3); sizes and positions vary slightly with `rng`."""
    colour = np.array(BACKGROUNDS[scene.background], int)
    if scene.background != "white":
        colour = (colour + rng.integers(-10, 11, size=3)).clip(0, 255)
    sheet = Image.new("RGBA", (side, side), (*(int(part) for part in colour), 255))
    pictures = [_cut_out(corpus, subject, scene.tint, rng) for subject in scene.subjects] * scene.count
    for picture, (x, y, size) in zip(pictures, layout(scene, rng), strict=True):
        edge = max(8, round(size * side))
        place = (round(x * side - edge / 2), round(y * side - edge / 2))
        left, top = (min(max(0, part), side - edge) for part in place)
        sheet.alpha_composite(picture.resize((edge, edge), Image.Resampling.LANCZOS), (left, top))
    return np.asarray(sheet)[..., :3]


def _cut_out(corpus: Corpus, subject: int, tint: str, rng: Generator) -> Image.Image:
    picture = corpus.picture(subject)
    if tint:
        tinted = recoloured(picture, tint)
        assert tinted is not None, "a plan tints only what can be tinted"
        picture = tinted
    if corpus.entries[subject].mirrorable and rng.random() < 0.5:
        picture = picture[:, ::-1]
    return Image.fromarray(np.ascontiguousarray(picture))


def layout(scene: Scene, rng: Generator) -> list[tuple[float, float, float]]:
    """Return centre x, centre y and side of each object, as shares of the picture's side."""
    shake = 0.03
    if len(scene.subjects) == 2:
        near, far = 0.26, 0.74
        first = near if scene.relation in ("left", "above") else far
        sizes = rng.uniform(0.40, 0.48, size=2)
        level = 0.5 + rng.uniform(-0.08, 0.08)
        along = (first, near + far - first)
        places = [
            (place, level) if scene.relation in ("left", "right") else (level, place) for place in along
        ]
        return [(x, y, float(size)) for (x, y), size in zip(places, sizes, strict=True)]
    centres, low, high = {
        1: ([(0.5, 0.5)], 0.66, 0.95),
        2: (_one_of([[(0.26, 0.5), (0.74, 0.5)], [(0.27, 0.33), (0.73, 0.67)]], rng), 0.40, 0.48),
        3: (
            _one_of([[(0.18, 0.5), (0.5, 0.5), (0.82, 0.5)], [(0.5, 0.27), (0.26, 0.73), (0.74, 0.73)]], rng),
            0.30,
            0.33,
        ),
        4: ([(0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)], 0.34, 0.44),
    }[scene.count]
    size = float(rng.uniform(low, high))
    return [
        (x + float(rng.uniform(-shake, shake)), y + float(rng.uniform(-shake, shake)), size)
        for x, y in centres
    ]


def describe(corpus: Corpus, scene: Scene, rng: Generator) -> str:
    """Return a random true sentence about a scene, in lower case."""
    first = corpus.entries[scene.subjects[0]]
    if len(scene.subjects) == 2:
        second = captions.noun_phrase(corpus.entries[scene.subjects[1]])
        between = "and" if rng.random() < 0.15 else _one_of(RELATIONS[scene.relation], rng)
        words = f"{captions.noun_phrase(first)} {between} {second}"
    elif scene.count > 1:
        words = captions.counted(first, scene.count)
    elif scene.tint:
        words = captions.noun_phrase(first, scene.tint)
    else:
        words = captions.noun_phrase(first) if rng.random() < 0.5 else first.label
    background = scene.background if scene.background != "white" or rng.random() < 0.2 else ""
    return captions.finished(words, first.style, rng, background=background)
