"""Settings of the second pass on the page: sent, restored from a picture's text, collapsed."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pochade.images.files import save_picture
from tests.page.conftest import Visit
from tests.page.test_mask import sent

pytest.importorskip("playwright")
from playwright.sync_api import expect

pytestmark = pytest.mark.slow

FIRST = "a fox\nSteps: 9, Sampler: Euler, CFG scale: 7, Seed: 11, Size: 128x128, Denoising strength: 0.5"
OWN = (
    ', Hires upscale: 1.5, Hires upscaler: Lanczos, Hires prompt: "an owl, wise", Hires negative prompt:'
    " snow, Hires sampler: Heun, Hires schedule type: Karras, Hires CFG Scale: 3, Hires checkpoint: starter"
)
SET = {
    "prompt": "an owl, wise", "negative_prompt": "snow", "sampler": "Heun", "schedule": "Karras",
    "cfg_scale": 3, "model": "starter",
}  # fmt: skip
UNSET = dict.fromkeys(SET)


def dropped(page: Any, path: Path, text: str) -> None:
    """In the panel "PNG info", then sent to "Text to image"."""
    save_picture(Image.new("RGB", (128, 128), "teal"), path, text)
    page.locator("#tab-info").click()
    page.locator(".panel-info input[type=file]").set_input_files(path)
    page.locator(".info-said").get_by_role("button", name="Text to image").click()


def own(page: Any) -> dict[str, Any]:
    hires = sent(page)["hires"]
    return {name: hires[name] for name in SET}


@pytest.mark.parametrize("size", ["desktop"])
def test_what_is_set_is_sent(quick_visit: Visit, size: str) -> None:
    page = quick_visit(size, quiet=False)
    page.locator("#hires > summary").click()
    page.get_by_text("Draw a larger second pass").click()
    expect(page.locator(".field-hires_prompt")).to_be_hidden()
    assert own(page) == UNSET
    page.locator("#hires-own > summary").click()
    page.get_by_label("Hires prompt", exact=True).fill("an owl, wise")
    page.get_by_label("Hires negative prompt").fill("snow")
    page.get_by_label("Hires sampler").select_option("Heun")
    page.get_by_label("Hires schedule").select_option("Karras")
    page.get_by_label("Hires CFG scale").fill("3")
    page.get_by_label("Hires CFG scale").press("Tab")
    page.get_by_label("Hires checkpoint").select_option("starter")
    assert own(page) == SET
    expect(page.locator("#hires-own > summary .badge")).to_have_text("6")
    page.reload()
    page.locator("html[data-ready]").wait_for()
    assert own(page) == SET
    page.get_by_label("Hires sampler").select_option("")
    page.get_by_label("Hires prompt", exact=True).fill("")
    assert own(page) == {**SET, "sampler": None, "prompt": None}


def test_what_a_pictures_text_says_is_restored(quick_visit: Visit, tmp_path: Path) -> None:
    page = quick_visit(quiet=False)
    dropped(page, tmp_path / "own.png", FIRST + OWN)
    expect(page.locator("#notes .note")).to_have_count(0)
    assert own(page) == SET
    dropped(page, tmp_path / "plain.png", FIRST + ", Hires upscale: 2, Hires upscaler: Lanczos")
    assert own(page) == UNSET
    assert sent(page)["hires"]["denoising_strength"] == 0.5


def test_a_size_becomes_a_scale_or_is_said_to_be_missing(quick_visit: Visit, tmp_path: Path) -> None:
    page = quick_visit(quiet=False)
    dropped(page, tmp_path / "same.png", FIRST + ", Hires resize: 192x192, Hires upscaler: Lanczos")
    assert sent(page)["hires"]["scale"] == 1.5
    expect(page.locator("#notes")).not_to_contain_text("second pass")
    dropped(page, tmp_path / "other.png", FIRST + ", Hires resize: 256x192, Hires upscaler: Lanczos")
    expect(page.locator("#notes")).to_contain_text("the size of its second pass")


def test_a_prompt_that_is_too_long_is_named(quick_visit: Visit) -> None:
    page = quick_visit(quiet=False)
    page.locator("#hires > summary").click()
    page.get_by_text("Draw a larger second pass").click()
    page.locator("#hires-own > summary").click()
    page.get_by_label("Hires prompt", exact=True).fill("x" * 30_000)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("Hires prompt has 30,000 characters")
