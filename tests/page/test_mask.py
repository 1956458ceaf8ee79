"""The mask editor: incremental painting, and keyboard use."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.page.conftest import Visit
from tests.page.test_over import give, masked, stroke
from tests.page.test_queue import SLOW, submit

pytest.importorskip("playwright")
from playwright.sync_api import expect

pytestmark = pytest.mark.slow
SIDE = 192
COUNTED = """
    window.counts = {};
    for (const name of ["lineTo", "clearRect", "stroke"]) {
        const inner = CanvasRenderingContext2D.prototype[name];
        window.counts[name] = 0;
        CanvasRenderingContext2D.prototype[name] = function (...values) {
            window.counts[name] += 1;
            return inner.apply(this, values);
        };
    }
    window.samples = 0;
    window.addEventListener("pointermove", (event) => {
        window.samples += Math.max(1, event.getCoalescedEvents().length);
    }, true);
"""
"""Counts what is painted, and the samples of the pointer."""


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "source.png"
    Image.new("RGB", (SIDE, SIDE), "teal").save(path)
    return path


def mask(page: Any) -> Any:
    """The mask that would be sent, as booleans; None without one."""
    page.route("**/api/v1/jobs", lambda route: route.abort())
    with page.expect_request(lambda each: each.url.endswith("/jobs") and each.method == "POST") as asked:
        page.locator(".generate").click()
    page.unroute("**/api/v1/jobs")
    source = asked.value.post_data_json["source"]
    return None if source["mask"] is None else masked({"source": source}) > 127


def seen(page: Any) -> Any:
    """What is painted over the picture on the page, as booleans."""
    rows = page.evaluate(
        """() => {
            const veil = document.querySelector(".editor-veil");
            const { data } = veil.getContext("2d").getImageData(0, 0, veil.width, veil.height);
            return Array.from({ length: data.length / 4 }, (_, i) => data[4 * i + 3] > 127);
        }"""
    )
    return np.array(rows).reshape(SIDE, SIDE)


def test_a_sample_of_the_pointer_paints_its_own_piece_and_nothing_else(
    quick_visit: Visit, picture: Path
) -> None:
    page = quick_visit(path="/#over", script=COUNTED, quiet=False)
    give(page, picture)
    for row in (0.1, 0.3, 0.5, 0.7, 0.9):
        stroke(page, *((x / 10, row) for x in range(1, 10)))
    page.get_by_role("button", name="Eraser").click()
    page.evaluate("() => { for (const name in counts) counts[name] = 0; samples = 0; }")
    stroke(page, *((0.5 + 0.3 * np.cos(x / 5), 0.5 + 0.3 * np.sin(x / 7)) for x in range(30)))
    counts, samples = page.evaluate("[counts, samples]")
    assert samples > 100
    assert 0 < counts["lineTo"] <= samples
    assert counts["stroke"] <= samples
    assert counts["clearRect"] == 0
    # Piece by piece it is what it is as a whole, but for the softness of its edges.
    assert (seen(page) == mask(page)).mean() > 0.97
    page.locator(".editor-veil").press("Control+z")
    page.locator(".editor-veil").press("Control+y")
    assert (seen(page) == mask(page)).mean() > 0.999


def test_undone_while_the_hand_still_draws(quick_visit: Visit, picture: Path) -> None:
    page = quick_visit(path="/#over", quiet=False)
    give(page, picture)
    box = page.locator(".editor-veil").bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 40, steps=3)
    page.keyboard.press("Control+z")
    page.mouse.move(box["x"] + 90, box["y"] + 40, steps=3)
    page.mouse.up()
    assert mask(page) is None
    assert not seen(page).any()


@pytest.mark.parametrize("language", ["en-US", "fr-FR"])
def test_a_mask_is_painted_by_keys_alone(quick_visit: Visit, picture: Path, language: str) -> None:
    page = quick_visit(path="/#over", quiet=False, locale=language)
    job = submit(page, prompt=SLOW, count=8)
    give(page, picture)
    said = page.locator("#said")
    page.locator(".field-brush input[type=range]").focus()
    page.keyboard.press("Tab")
    veil = page.locator(".editor-veil")
    expect(veil).to_be_focused()
    expect(page.locator(".editor-ring")).to_be_visible()
    words = page.locator(f"#{veil.get_attribute('aria-describedby')}")
    expect(words).to_contain_text("arrow keys" if language == "en-US" else "flèches")

    page.keyboard.press("ArrowLeft")  # with the brush up, nothing is painted
    expect(said).to_have_text(
        "46 % across, 50 % down" if language == "en-US" else "46 % depuis la gauche, 50 % depuis le haut"
    )
    assert not seen(page).any()
    page.keyboard.press("Space")
    expect(said).to_have_text("Painting" if language == "en-US" else "Peinture en cours")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")  # lifts it, and does not interrupt the drawing
    for _ in range(5):
        page.keyboard.press("ArrowDown")
    painted = seen(page)
    assert painted[96, 80:143].all()  # from the middle, 8 px to the left, 6 steps of half the radius (16)
    assert not painted[130:].any()
    address = page.url.split("#")[0].rstrip("/")
    assert page.request.get(f"{address}/api/v1/jobs/{job}").json()["state"] in ("queued", "running")

    for _ in range(5):
        page.keyboard.press("ArrowUp")
    before = page.locator(".editor-ring").evaluate("ring => ring.style.getPropertyValue('--x')")
    page.keyboard.press("Shift+ArrowLeft")
    scale = float(page.locator(".editor-frame").get_attribute("data-scale"))
    after = page.locator(".editor-ring").evaluate("ring => ring.style.getPropertyValue('--x')")
    assert float(before[:-2]) - float(after[:-2]) == pytest.approx(scale, rel=0.01)
    page.keyboard.press("Shift+Space")
    page.keyboard.press("Space")
    erased = seen(page)
    assert not erased[96, 135]
    assert erased[96, 90]
    page.keyboard.press("Control+z")
    assert (seen(page) == painted).mean() > 0.995
    assert (mask(page) == painted).mean() > 0.999


def test_a_dot_at_the_edge_stays_a_dot(quick_visit: Visit, picture: Path) -> None:
    page = quick_visit(path="/#over", quiet=False)
    give(page, picture)
    page.locator(".field-brush input[type=range]").focus()
    page.keyboard.press("Tab")
    for _ in range(20):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowUp")  # further than the edge: nowhere
    page.keyboard.press("Tab")  # lifts the brush
    expect(page.locator(".editor-ring")).to_be_hidden()
    assert mask(page)[2, 96]


@pytest.mark.parametrize("language", ["en-US", "fr-FR"])
def test_what_keys_do_to_the_tools_is_seen_and_said(quick_visit: Visit, picture: Path, language: str) -> None:
    english = language == "en-US"
    page = quick_visit(path="/#over", quiet=False, locale=language)
    give(page, picture)
    said, ring = page.locator("#said"), page.locator(".editor-ring")
    brush = page.get_by_role("button", name="Brush" if english else "Pinceau", exact=True)
    eraser = page.get_by_role("button", name="Eraser" if english else "Gomme", exact=True)
    page.locator(".field-brush input[type=range]").focus()
    page.keyboard.press("Tab")

    page.keyboard.press("e")
    expect(said).to_have_text("Eraser" if english else "Gomme")
    expect(eraser).to_have_attribute("aria-pressed", "true")
    expect(ring).to_have_class(re.compile("erase"))
    page.keyboard.press("e")
    expect(said).to_have_text("Brush" if english else "Pinceau")
    expect(ring).not_to_have_class(re.compile("erase"))

    page.keyboard.press("Shift+Space")  # the eraser, for as long as it is down
    expect(said).to_have_text("Erasing" if english else "Effacement en cours")
    expect(eraser).to_have_attribute("aria-pressed", "true")
    expect(brush).to_have_attribute("aria-pressed", "false")
    expect(ring).to_have_class(re.compile("erase"))
    page.keyboard.press("Space")
    expect(said).to_have_text("Stopped" if english else "Arrêté")
    expect(brush).to_have_attribute("aria-pressed", "true")

    page.keyboard.press("]")
    expect(said).to_have_text("Brush size 20" if english else "Taille du pinceau : 20")
    page.keyboard.press("[")
    expect(said).to_have_text("Brush size 16" if english else "Taille du pinceau : 16")
    page.keyboard.press("Control+z")
    expect(said).to_have_text("Undone" if english else "Annulé")
    page.keyboard.press("Control+z")
    expect(said).to_have_text("Nothing to undo" if english else "Rien à annuler")
    page.keyboard.press("Control+y")
    expect(said).to_have_text("Redone" if english else "Rétabli")

    page.keyboard.press("Space")
    expect(said).to_have_text("Painting" if english else "Peinture en cours")
    page.keyboard.press("Tab")  # leaving stops it, and says so
    expect(said).to_have_text("Stopped" if english else "Arrêté")


def test_the_smallest_brush_grows_again(quick_visit: Visit, picture: Path) -> None:
    page = quick_visit(path="/#over", quiet=False)
    give(page, picture)
    page.locator(".field-brush input.small").fill("1")
    page.locator(".field-brush input.small").press("Tab")
    page.locator(".editor-veil").press("]")
    expect(page.locator("#said")).to_have_text("Brush size 2")


def test_margins_switch_the_mask_off(quick_visit: Visit, picture: Path) -> None:
    """A picture that grows has no mask of a hand's, and is drawn anew with a strength of 1, as elsewhere."""
    page = quick_visit(path="/#over", quiet=False)
    give(page, picture)
    stroke(page, (0.2, 0.5), (0.6, 0.5))
    tools = [
        page.get_by_role("button", name=name, exact=True)
        for name in ("Brush", "Eraser", "Undo", "Clear the mask", "Invert the mask")
    ]
    strength = page.locator(".field-denoising_strength input.small")
    expect(strength).to_have_value("0.75")
    page.locator(".editor summary").click()
    page.get_by_role("button", name="64 around").click()
    for tool in tools:
        expect(tool).to_be_disabled()
    expect(page.locator(".editor-veil")).to_be_hidden()
    expect(page.get_by_role("button", name="Zoom in")).to_be_enabled()
    expect(strength).to_be_hidden()
    expect(page.locator(".field-outpaint_strength input.small")).to_have_value("1")
    source = sent(page)["source"]
    assert (source["mask"], source["outpaint"]["left"], source["denoising_strength"]) == (None, 64, 1)
    page.get_by_role("button", name="No margins").click()
    for tool in tools:
        expect(tool).to_be_enabled()
    expect(strength).to_be_visible()
    source = sent(page)["source"]
    assert source["mask"] is not None and source["outpaint"] is None
    assert source["denoising_strength"] == 0.75


def sent(page: Any) -> Any:
    """The job that would be sent."""
    page.route("**/api/v1/jobs", lambda route: route.abort())
    with page.expect_request(lambda each: each.url.endswith("/jobs") and each.method == "POST") as asked:
        page.locator(".generate").click()
    page.unroute("**/api/v1/jobs")
    return asked.value.post_data_json


@pytest.mark.parametrize("language", ["en-US", "fr-FR"])
def test_the_tools_lie_in_one_row(quick_visit: Visit, picture: Path, language: str) -> None:
    page = quick_visit(path="/#over", locale=language)
    give(page, picture)
    tops = page.locator(".tools .tool").evaluate_all("tools => tools.map((tool) => tool.offsetTop)")
    assert len(tops) == 8 and len(set(tops)) == 1


@pytest.mark.parametrize("phone", [False, True])
def test_hints_about_keys_are_for_those_who_have_keys(quick_visit: Visit, picture: Path, phone: bool) -> None:
    page = quick_visit("phone" if phone else "desktop", path="/#over", is_mobile=phone)
    give(page, picture)
    hint = page.locator(".editor .of-keys")
    expect(hint).to_be_hidden() if phone else expect(hint).to_be_visible()
    page.locator("#tab-settings").click()
    keys = page.locator(".panel-settings .of-keys")
    expect(keys).to_be_hidden() if phone else expect(keys).to_contain_text("start erasing")
