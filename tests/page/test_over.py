"""img2img on the page: brush, eraser and undo of the mask, the frame, and the result."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pochade.images.embedded_text import mark_of, text_of
from pochade.images.marks import EDITED
from pochade.images.metadata import read_parameters
from tests.page.conftest import Visit
from tests.page.test_drawing import finished, generate, number, shown

pytest.importorskip("playwright")
from playwright.sync_api import expect

pytestmark = pytest.mark.slow

SIDE = 128


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Smooth, and different everywhere."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    pixels = np.stack([rows * 2, columns * 2, 255 - rows], axis=-1).astype(np.uint8)
    path = tmp_path / "source.png"
    Image.fromarray(pixels).save(path)
    return path


def give(page: Any, picture: Path) -> None:
    page.locator(".over input[type=file]").set_input_files(picture)
    expect(page.locator(".editor")).to_be_visible()


def stroke(page: Any, *points: tuple[float, float]) -> None:
    """With the mouse, over places of the picture given as shares of its sides."""
    veil = page.locator(".editor-veil")
    veil.scroll_into_view_if_needed()
    box = veil.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    page.mouse.up()


def sent(page: Any, act: Any) -> Any:
    """The request that a click sends, and the job that comes of it."""
    with page.expect_request(
        lambda request: request.url.endswith("/jobs") and request.method == "POST"
    ) as asked:
        job = act()
    return asked.value.post_data_json, job


def masked(request: Any) -> Any:
    content = base64.b64decode(request["source"]["mask"].partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(content)).convert("L"))


def drawn(page: Any) -> Any:
    content = page.request.get(shown(page).evaluate("image => image.src")).body()
    assert mark_of(content) == EDITED
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), int), read_parameters(text_of(content))


def test_only_what_is_under_the_mask_is_drawn_anew(visit: Visit, size: str, picture: Path) -> None:
    page = visit(size, path="/#over")
    give(page, picture)
    number(page, "steps", "4")
    number(page, "mask_blur", "0")
    stroke(page, (0.3, 0.3), (0.6, 0.3))
    request, job = sent(page, lambda: generate(page))
    assert request["kind"] == "inpaint"
    mask = masked(request)
    assert mask.shape == (SIDE, SIDE)
    assert set(np.unique(mask[::4, ::4])) <= set(range(256))
    assert mask[38, 60] == 255  # in the middle of the stroke
    assert mask[100, 60] == 0
    finished(page, job)
    result, said = drawn(page)
    before = np.asarray(Image.open(picture), int)
    assert result.shape == before.shape
    assert np.array_equal(result[80:], before[80:])
    assert np.abs(result[mask == 255] - before[mask == 255]).mean() > 2
    assert "Mask blur" in said.values


def test_brush_eraser_undo_redo_invert_and_clear(visit: Visit, picture: Path) -> None:
    page = visit(path="/#over", quiet=False)  # nothing is drawn here: the requests are looked at and refused
    give(page, picture)
    page.route(
        "**/api/v1/jobs", lambda route: route.abort() if route.request.method == "POST" else route.continue_()
    )

    def mask() -> Any:
        with page.expect_request(lambda each: each.url.endswith("/jobs") and each.method == "POST") as asked:
            page.locator(".generate").click()
        source = asked.value.post_data_json["source"]
        return None if source["mask"] is None else masked({"source": source}) > 127

    tools = page.get_by_role("toolbar", name="Mask")
    assert mask() is None
    stroke(page, (0.2, 0.5), (0.8, 0.5))
    whole = mask()
    assert whole[64, 30:100].all()
    tools.get_by_role("button", name="Eraser").click()
    stroke(page, (0.5, 0.5))
    erased = mask()
    assert not erased[64, 64]
    assert erased[64, 30]
    page.locator(".editor-veil").press("Control+z")
    assert np.array_equal(mask(), whole)
    tools.get_by_role("button", name="Redo").click()
    assert np.array_equal(mask(), erased)
    tools.get_by_role("button", name="Invert the mask").click()
    assert (mask() == ~erased).mean() > 0.99
    tools.get_by_role("button", name="Clear the mask").click()
    assert mask() is None
    brush = page.locator(".field-brush input.small")
    before = int(brush.input_value())
    page.locator(".editor-veil").press("]")
    assert int(brush.input_value()) > before
    tools.get_by_role("button", name="Zoom in").click()
    assert page.locator(".editor-view").evaluate("view => view.scrollWidth > view.clientWidth")


def test_a_frame_lets_the_picture_grow(visit: Visit, picture: Path) -> None:
    page = visit(path="/#over")
    give(page, picture)
    number(page, "steps", "3")
    page.get_by_text("Extend the picture").click()
    page.get_by_label("Right").fill("32")
    page.get_by_label("Right").press("Tab")
    expect(page.locator(".editor-frame.further")).to_be_visible()
    request, job = sent(page, lambda: generate(page))
    assert request["source"]["outpaint"] == {"left": 0, "top": 0, "right": 32, "bottom": 0}
    assert request["source"]["mask"] is None
    finished(page, job)
    result, _ = drawn(page)
    assert result.shape == (SIDE, SIDE + 32, 3)
    assert np.array_equal(result[:, : SIDE - 32], np.asarray(Image.open(picture), int)[:, : SIDE - 32])


def test_a_picture_that_was_drawn_is_drawn_over(visit: Visit) -> None:
    page = visit()
    number(page, "steps", "2")
    finished(page, generate(page))
    page.locator(".stage .send").get_by_role("button", name="Image to image").click()
    expect(page.locator(".editor")).to_be_visible()
    number(page, "denoising_strength", "0.5")
    request, job = sent(page, lambda: generate(page))
    assert request["kind"] == "img2img"
    assert request["source"]["image"].startswith("picture:")
    finished(page, job)
    _, said = drawn(page)
    assert said.values["Denoising strength"] == "0.5"
