"""Scenes: sentences match the pictures."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pochade.training.corpus.colours import dominant_colour
from pochade.training.data import scenes
from pochade.training.data.captions import countable, counted, plural
from pochade.training.data.recolouring import TINTS, from_oklch, oklch, recoloured
from pochade.training.data.scenes import BACKGROUNDS, Scene, describe, draw, plan
from tests.training.data.test_captions import entry

SIDE = 64


@dataclass(frozen=True)
class Cutouts:
    """A corpus of plain squares, one colour for each label."""

    entries: tuple[Any, ...]
    colours: tuple[tuple[int, int, int], ...]
    size: int = 128

    def picture(self, index: int) -> NDArray[np.uint8]:
        picture = np.zeros((32, 32, 4), np.uint8)
        picture[4:28, 4:28] = (*self.colours[index], 255)
        return picture

    def content(self, index: int) -> bytes:
        return self.picture(index).tobytes()


CORPUS: Any = Cutouts(
    entries=(
        entry("fox", colour="red", style="3d style", mirrorable=False),
        entry("boat", colour="blue", style="3d style"),
        entry("kite", colour="green", style="flat style"),
        entry("owl", colour="purple", style="flat style"),
    ),
    colours=((220, 40, 40), (40, 90, 220), (40, 180, 60), (150, 60, 200)),
)
GROUPS = [[0, 1], [2, 3]]


def centre(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.float64]:
    """Mean (x, y) of the pixels of one colour."""
    here = np.abs(picture.astype(int) - colour).sum(axis=2) < 60
    assert here.any()
    ys, xs = np.nonzero(here)
    return np.array([xs.mean(), ys.mean()])


@pytest.mark.parametrize(
    ("relation", "axis", "sign"), [("left", 0, 1), ("right", 0, -1), ("above", 1, 1), ("below", 1, -1)]
)
def test_the_first_thing_is_where_the_relation_says(relation: Any, axis: int, sign: int) -> None:
    scene = Scene(subjects=(0, 1), relation=relation)
    for seed in range(8):
        picture = draw(CORPUS, scene, np.random.default_rng(seed), SIDE)
        distance = centre(picture, CORPUS.colours[1]) - centre(picture, CORPUS.colours[0])
        assert sign * distance[axis] > SIDE / 4
        assert abs(distance[1 - axis]) < SIDE / 4


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_count_is_a_number_of_separate_things(count: int) -> None:
    for seed in range(8):
        picture = draw(CORPUS, Scene(subjects=(1,), count=count), np.random.default_rng(seed), 128)
        shown = (picture < 200).any(axis=2)  # sharp edges ring a little when they are reduced
        assert components(shown) == count


def components(mask: NDArray[np.bool_]) -> int:
    """Connected regions of a mask, by flooding."""
    left, found = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}, 0
    while left:
        found += 1
        edge = [left.pop()]
        while edge:
            y, x = edge.pop()
            for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if near in left:
                    left.remove(near)
                    edge.append(near)
    return found


def test_the_background_is_the_one_that_is_named() -> None:
    for name, colour in BACKGROUNDS.items():
        picture = draw(CORPUS, Scene(subjects=(0,), background=name), np.random.default_rng(1), SIDE)
        assert np.abs(picture[0, 0].astype(int) - colour).max() <= 10


def test_plans_are_of_one_style_and_all_kinds_occur() -> None:
    planned = [plan(CORPUS, GROUPS, np.random.default_rng((5, n))) for n in range(200)]
    for scene in planned:
        assert len({CORPUS.entries[index].style for index in scene.subjects}) == 1
        assert len(set(scene.subjects)) == len(scene.subjects)
    assert {scene.count for scene in planned} == {1, 2, 3, 4}
    assert {scene.relation for scene in planned} == {"", *scenes.RELATIONS}
    assert {scene.tint for scene in planned} >= {"red", "blue", "green"}
    assert {scene.background for scene in planned} == set(BACKGROUNDS)


def test_the_same_numbers_give_the_same_scene_and_picture() -> None:
    def once() -> NDArray[np.uint8]:
        rng = np.random.default_rng((3, 4))
        return draw(CORPUS, plan(CORPUS, GROUPS, rng), rng, SIDE)

    assert np.array_equal(once(), once())


@pytest.mark.parametrize(
    ("scene", "words"),
    [
        (
            Scene(subjects=(0, 1), relation="left"),
            {"a fox to the left of a boat", "a fox left of a boat", "a fox and a boat"},
        ),
        (
            Scene(subjects=(3, 2), relation="below"),
            {"an owl below a kite", "an owl under a kite", "an owl and a kite"},
        ),
        (Scene(subjects=(0,), count=3), {"three foxes"}),
        (Scene(subjects=(2,), tint="orange"), {"an orange kite"}),
    ],
)
def test_descriptions(scene: Scene, words: set[str]) -> None:
    said = {describe(CORPUS, scene, np.random.default_rng(seed)).split(",")[0] for seed in range(60)}
    assert said == words


def test_a_coloured_background_is_always_said() -> None:
    scene = Scene(subjects=(0,), background="light green")
    for seed in range(20):
        assert "on a light green background" in describe(CORPUS, scene, np.random.default_rng(seed))


@pytest.mark.parametrize("colour", TINTS)
def test_a_tint_is_called_by_its_name_or_refused(colour: str) -> None:
    tinted = [recoloured(CORPUS.picture(index), colour) for index in range(4)]
    assert any(picture is not None for picture in tinted)
    for index, picture in enumerate(tinted):
        if picture is not None:
            assert dominant_colour(picture)[0] == colour
            assert np.array_equal(picture[..., 3], CORPUS.picture(index)[..., 3])


def test_what_has_no_colour_of_its_own_is_not_tinted() -> None:
    gray = np.full((8, 8, 4), 128, np.uint8)
    gray[..., 3] = 255
    assert recoloured(gray, "red") is None


def test_oklch_goes_back_to_the_same_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(500, 3), dtype=np.uint8)
    assert np.abs(from_oklch(*oklch(pixels)).astype(int) - pixels).max() <= 1


@pytest.mark.parametrize(
    ("label", "count", "expected"),
    [
        ("fox", 2, "two foxes"), ("cherry", 3, "three cherries"), ("sheaf of rice", 2, "two sheaves of rice"),
        ("toy", 4, "four toys"), ("mouse", 2, "two mice"),
        ("cat with wry smile", 3, "three cats with wry smile"),
        ("bus", 2, "two buses"), ("fish", 5, "five fish"),
    ],
)  # fmt: skip
def test_counted(label: str, count: int, expected: str) -> None:
    assert counted(entry(label), count) == expected


def test_what_cannot_be_counted() -> None:
    assert countable(entry("fox"))
    for label in ("grapes", "cooked rice", "two hearts", "mount fuji", "foggy"):
        assert not countable(entry(label)), label
    assert not countable(replace(entry("hand"), group="people-body"))
    assert plural("leaf") == "leaves"
