"""Composed prompts: the included files, and the rules on pictures with known content."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pochade.evaluation import composed
from pochade.evaluation.composed import Composed
from pochade.evaluation.measures import PROMPTS
from pochade.evaluation.scorer_model import Embeddings
from pochade.training.data.recolouring import TINTS
from pochade.training.data.scenes import BACKGROUNDS

RED, BLUE = (220, 40, 40), (40, 80, 200)


class ColourScorer:
    """A judge that knows two labels, "red" and "blue", and looks at the middle of a picture."""

    labels = ("red", "blue", "green", "pink", "gray", "brown")

    def embed_images(self, images: list[Image.Image]) -> Embeddings:
        middles = [np.asarray(image)[image.height // 2, image.width // 2] for image in images]
        return self._places([[float(m[0] > m[2]), float(m[2] > m[0])] for m in middles])

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        return np.array([[text == "red", text == "blue"] for text in texts], np.float32)

    def _places(self, rows: list[list[float]]) -> Embeddings:
        return Embeddings(np.array(rows, np.float32), np.array(rows, np.float32))


SCORER: Any = ColourScorer()


def page(*things: tuple[tuple[int, int], tuple[int, int, int]], ground: Any = "white") -> np.ndarray:
    """Squares of 20 px around given places: (64, 64, 3)."""
    image = Image.new("RGB", (64, 64), ground)
    for (x, y), colour in things:
        ImageDraw.Draw(image).rectangle((x - 10, y - 10, x + 10, y + 10), fill=colour)
    return np.asarray(image)


def verdict(picture: np.ndarray, **fields: Any) -> dict[str, Any]:
    prompt = Composed(prompt="", style="flat style", **fields)
    return composed.score(SCORER, [prompt], [picture])[0]


def test_the_colour_is_the_thing_s_and_not_the_background_s() -> None:
    picture = page(((32, 32), RED), ground=BLUE)
    about: dict[str, Any] = {"kind": "colour", "labels": ("red",)}
    assert verdict(picture, colour="red", **about)["obeyed"]
    assert not verdict(picture, colour="blue", **about)["obeyed"]
    assert not verdict(page(), colour="white", **about)["obeyed"]  # nothing is there


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_every_named_background_is_told_from_the_others(name: str) -> None:
    picture = page(((32, 32), RED), ground=BACKGROUNDS[name])
    seen = [
        other
        for other in BACKGROUNDS
        if verdict(picture, kind="background", labels=("red",), colour=other)["obeyed"]
    ]
    assert seen == [name]


def test_the_number_must_be_exact() -> None:
    picture = page(((16, 16), RED), ((46, 40), RED))
    for count in (1, 2, 3):
        assert verdict(picture, kind="count", labels=("red",), count=count)["obeyed"] == (count == 2)


@pytest.mark.parametrize(
    ("relation", "red"), [("left", (16, 32)), ("right", (48, 32)), ("above", (32, 16)), ("below", (32, 48))]
)
def test_each_half_must_show_its_own_thing(relation: str, red: tuple[int, int]) -> None:
    about: dict[str, Any] = {"kind": "beside", "labels": ("red", "blue"), "relation": relation}
    blue = (64 - red[0], 64 - red[1])
    right = verdict(page((red, RED), (blue, BLUE)), **about)
    assert right["obeyed"] and right["ranks"] == [0, 0]
    swapped = verdict(page((blue, RED), (red, BLUE)), **about)
    assert not swapped["obeyed"] and min(swapped["ranks"]) > 0
    assert not verdict(page((red, RED), (blue, RED)), **about)["obeyed"]  # twice the same


def test_an_empty_half_is_wrong_and_its_thing_has_the_last_rank() -> None:
    found = verdict(page(((16, 32), RED)), kind="beside", labels=("red", "blue"), relation="left")
    assert not found["obeyed"]
    assert found["ranks"] == [0, len(SCORER.labels)]


def test_figures_are_by_kind_and_by_things() -> None:
    figures = composed.by_figure(
        [
            {"kind": "colour", "obeyed": True, "ranks": [7]},
            {"kind": "colour", "obeyed": False, "ranks": [0]},
            {"kind": "count", "obeyed": True, "ranks": []},
            {"kind": "above", "obeyed": True, "ranks": [0, 5]},
        ]
    )
    assert figures == {
        "colour": [True, False], "count": [True], "above": [True], "thing, top-5": [False, True],
        "both things, top-5": [False],
    }  # fmt: skip


def test_lines_are_read_back(tmp_path: Any) -> None:
    prompts = composed.read(PROMPTS / "composed.jsonl")
    path = tmp_path / "again.jsonl"
    path.write_text("".join(map(composed.to_line, prompts)), "utf-8")
    assert composed.read(path) == prompts
    assert path.read_text("utf-8") == (PROMPTS / "composed.jsonl").read_text("utf-8")


def test_the_shipped_prompts_say_what_they_ask_for() -> None:
    prompts = composed.read(PROMPTS / "composed.jsonl")
    kinds = Counter(prompt.kind for prompt in prompts)
    assert kinds == {"colour": 25, "background": 25, "count": 50, "beside": 50, "above": 50}
    assert len({prompt.prompt for prompt in prompts}) == 200
    counts = Counter(prompt.count for prompt in prompts if prompt.kind == "count")
    assert min(counts[1], counts[2], counts[3]) >= 15
    for prompt in prompts:
        assert prompt.prompt.endswith(f", {prompt.style}")
        if prompt.kind == "colour":
            assert prompt.colour in TINTS and f" {prompt.colour} {prompt.labels[0]}," in prompt.prompt
        elif prompt.kind == "background":
            assert prompt.colour in BACKGROUNDS and f" {prompt.colour} background," in prompt.prompt
        elif prompt.kind == "count":
            assert ("two " in prompt.prompt, "three " in prompt.prompt) == (
                prompt.count == 2,
                prompt.count == 3,
            )
        else:
            first, second = prompt.labels
            words = {"left": "to the left of", "right": "to the right of"}.get(
                prompt.relation, prompt.relation
            )
            assert f"{first} {words} a" in prompt.prompt and f" {second}, " in prompt.prompt
