"""The pipeline in notebooks: output of a cell during and after drawing."""

import base64
import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pochade
from pochade.errors import InvalidRequest
from pochade.images.embedded_text import mark_of, text_of
from pochade.images.marks import EDITED, GENERATED
from pochade.notebook import NotebookPipeline
from pochade.notebook import display as display_module
from pochade.pipeline.pipeline import Pipeline


class Cell:
    """What a cell would show: every frame of every place, in order."""

    def __init__(self) -> None:
        self.frames: list[Any] = []

    def display(self, frame: Any, display_id: bool) -> "Cell":
        assert display_id
        self.update(frame)
        return self

    def update(self, frame: Any) -> None:
        self.frames.append(frame)

    def pictures(self, frame: int = -1) -> list[bytes]:
        urls = re.findall(r'src="data:image/webp;base64,([^"]+)"', self.frames[frame]._repr_html_())
        return [base64.b64decode(url) for url in urls]


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return pochade.load()


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cell]:
    import IPython.display

    cell = Cell()
    monkeypatch.setattr(IPython.display, "display", cell.display)
    yield cell


def ticking() -> float:
    """A clock by which every look takes long enough for a new frame."""
    ticking.now += 1.0  # type: ignore[attr-defined]
    return ticking.now  # type: ignore[attr-defined,no-any-return]


ticking.now = 0.0  # type: ignore[attr-defined]


def pixels(image: Image.Image) -> Any:
    return np.asarray(image.convert("RGB"), int)


def test_a_drawing_is_watched_and_is_the_same_as_without_a_notebook(pipeline: Pipeline, cell: Cell) -> None:
    drawn = NotebookPipeline(pipeline, clock=ticking).txt2img("a red apple", seed=7, steps=4)
    plain = pipeline.txt2img("a red apple", seed=7, steps=4)
    assert np.array_equal(pixels(drawn.images[0]), pixels(plain.images[0]))
    assert (drawn.seeds, drawn.infotexts) == (plain.seeds, plain.infotexts)
    words = [repr(frame) for frame in cell.frames]
    assert [re.sub(r"\d+ s left", "N s left", each) for each in words] == [
        "starting",
        *(f"step {i} of 4, about N s left" for i in (1, 2, 3)),
        "<1 picture, seed 7>",
    ]
    assert all(len(cell.pictures(i)) == 1 for i in (1, 2, 3))
    (shown,) = cell.pictures()
    assert text_of(shown) == plain.infotexts[0]
    assert mark_of(shown) == GENERATED
    assert np.abs(pixels(Image.open(io.BytesIO(shown))) - pixels(plain.images[0])).mean() < 4


def test_what_is_on_display_is_not_shown_twice_but_again_if_asked(pipeline: Pipeline, cell: Cell) -> None:
    drawn = NotebookPipeline(pipeline).txt2img("a red apple", seed=7, steps=2, batch_size=2)
    assert (drawn._repr_html_(), drawn._repr_png_()) == (None, None)
    assert repr(drawn) == "<2 pictures, seed 7, 8>"
    again = drawn.show()
    assert (again._repr_html_() or "").count("<img ") == 2
    assert Image.open(io.BytesIO(again._repr_png_() or b"")).width > 2 * 128


def test_a_result_shows_itself(pipeline: Pipeline) -> None:
    result = pipeline.txt2img('a "fox" <b>', seed=7, steps=1)
    content = result._repr_png_() or b""
    assert text_of(content) == result.infotexts[0]
    assert np.array_equal(pixels(Image.open(io.BytesIO(content))), pixels(result.images[0]))
    html = result._repr_html_() or ""
    assert "seed 7" in html
    assert "<b>" not in html


def test_over_a_picture_is_marked_as_such(pipeline: Pipeline, cell: Cell) -> None:
    image = Image.new("RGB", (128, 128), "orange")
    drawn = NotebookPipeline(pipeline).img2img(
        "an orange", image=image, denoising_strength=0.5, seed=1, steps=2
    )
    assert drawn.mark == EDITED
    assert mark_of(cell.pictures()[0]) == EDITED


def test_a_sheet_fills_while_it_is_drawn(pipeline: Pipeline, cell: Cell) -> None:
    sheet = NotebookPipeline(pipeline, clock=ticking).drafts("a castle", count=3, steps=2, seed=5)
    assert len(sheet) == 3
    assert len({result.seeds[0] for result in sheet.results}) == 3
    assert sheet[0].seeds == [5]
    assert all(len(cell.pictures(i)) == 3 for i in range(1, len(cell.frames)))
    assert [repr(frame) for frame in cell.frames] == [
        "starting",
        *["0 of 3", "1 of 3", "1 of 3", "2 of 3", "2 of 3", "3 of 3"],
    ]


def test_a_draft_is_worked_out_and_varied(pipeline: Pipeline, cell: Cell) -> None:
    notebook = NotebookPipeline(pipeline)
    sheet = notebook.drafts("a castle", count=2, steps=1)
    best = sheet.refine(2, steps=3)
    assert best.seeds == sheet[1].seeds
    assert "Steps: 3," in best.infotexts[0]
    near = sheet.near(2, count=2, strength=0.4)
    assert [result.seeds for result in near.results] == [sheet[1].seeds] * 2
    assert all("Variation seed strength: 0.4" in result.infotexts[0] for result in near.results)
    for number in (0, 3):
        with pytest.raises(InvalidRequest, match=f"draft {number} is not on the sheet; it has 1 to 2"):
            sheet.refine(number)
        with pytest.raises(InvalidRequest, match="is not on the sheet"):
            sheet.near(number)


def test_without_a_frontend_nothing_breaks(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    import IPython.display

    monkeypatch.setattr(IPython.display, "display", lambda *_, **__: None)
    assert NotebookPipeline(pipeline).txt2img("a fox", seed=1, steps=1).seeds == [1]
    assert (
        display_module.DisplayHandle(display_module.Frame("", "")).show(display_module.Frame("", "")) is None
    )
