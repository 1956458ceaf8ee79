"""Basic use of the page: draw, stop, reload, history."""

import base64
import io
import re
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pochade.images.embedded_text import mark_of, text_of
from pochade.images.files import save_picture
from pochade.images.marks import GENERATED
from pochade.images.metadata import read_parameters
from tests.page.conftest import Visit

pytest.importorskip("playwright")
from playwright.sync_api import expect

LONG = {"steps": "150", "batch_size": "8", "count": "4"}
"""Some seconds of drawing, to be interrupted."""


def generate(page: Any, by_keys: bool = False) -> str:
    """By the button that is in reach at this size. Returns the job's id."""
    with page.expect_response(re.compile("/api/v1/jobs$")) as asked:
        if by_keys:
            page.keyboard.press("Control+Enter")
        else:
            page.locator(".generate:visible, .generate-bar .primary:visible").click()
    return str(asked.value.json()["id"])


def interrupt(page: Any) -> None:
    page.locator(".stoppers .interrupt:visible, .generate-bar .interrupt:visible").click()


def number(page: Any, name: str, value: str) -> None:
    box = page.locator(
        f".workspace .field-{name} input.small, .workspace .field-{name} > input[type=number]"
    ).first
    box.fill(value)
    box.press("Tab")


def shown(page: Any) -> Any:
    return page.locator(".stage .large-picture img")


def finished(page: Any, job: str) -> None:
    expect(page.locator(f'.stage .large[data-shows^="{job}"] img')).to_be_visible()


def text_of_shown(page: Any) -> str:
    """The parameters text in the file behind the picture on the stage."""
    return text_of(file_of_shown(page))


def file_of_shown(page: Any) -> bytes:
    address = shown(page).evaluate("image => image.src")
    return bytes(page.request.get(address).body())


def test_the_first_picture_takes_one_click(visit: Visit, size: str) -> None:
    page = visit(size)
    expect(page.get_by_label("Prompt", exact=True).first).to_have_value("a frog, 3d style")
    finished(page, generate(page))
    values = read_parameters(text_of_shown(page))
    assert values.prompt == "a frog, 3d style"
    assert values.values["Steps"] == "20"
    assert mark_of(file_of_shown(page)) == GENERATED
    expect(page.locator("#said")).to_contain_text("1 picture")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


@pytest.mark.slow
def test_what_is_set_is_what_is_drawn(visit: Visit) -> None:
    page = visit()
    page.get_by_label("Prompt", exact=True).first.fill("a castle, noto style")
    page.get_by_label("Negative prompt", exact=True).fill("blue")
    page.locator(".field-sampler select").first.select_option("Euler a")
    page.locator(".field-schedule select").select_option("Karras")
    number(page, "steps", "4")
    number(page, "cfg_scale", "5.5")
    number(page, "seed", "7")
    page.get_by_role("button", name="Landscape").click()
    page.get_by_text("Styles", exact=True).click()
    page.get_by_role("button", name="flat", exact=True).click()
    finished(page, generate(page, by_keys=True))
    said = read_parameters(text_of_shown(page))
    assert said.prompt == "a castle, noto style, flat style"
    assert said.negative_prompt == "blue"
    width, height = map(int, said.values["Size"].split("x"))
    assert width > height
    for name, value in {
        "Sampler": "Euler a",
        "Schedule type": "Karras",
        "Steps": "4",
        "CFG scale": "5.5",
    }.items():
        assert said.values[name] == value
    assert said.values["Seed"] == "7"
    # The seed of the last picture is at hand, and the sides can be swapped.
    number(page, "seed", "")
    page.get_by_role("button", name="Use the last picture's seed").click()
    expect(page.locator(".seed .field-seed input").first).to_have_value("7")
    before = [page.locator(f".field-{side} input").input_value() for side in ("width", "height")]
    page.get_by_role("button", name="Swap width and height").click()
    assert [page.locator(f".field-{side} input").input_value() for side in ("height", "width")] == before


@pytest.mark.slow
def test_interrupt_keeps_what_is_there(visit: Visit, size: str) -> None:
    page = visit(size)
    for name, value in LONG.items():
        number(page, name, value)
    job = generate(page)
    expect(page.locator(".stage .previews img").first).to_be_visible()
    expect(page.locator(".progress-words").first).to_contain_text("Step")
    assert page.locator(".stage .previews img").count() == 8
    interrupt(page)
    finished(page, job)
    assert 8 <= page.locator(f'.strip [data-id^="{job}"]').count() < 8 * 4


@pytest.mark.slow
def test_escape_interrupts_and_skip_goes_on(visit: Visit) -> None:
    page = visit()
    for name, value in (LONG | {"batch_size": "4"}).items():
        number(page, name, value)
    job = generate(page)
    expect(page.locator(".progress-words").first).to_contain_text("Picture 1 of 16")
    page.get_by_role("button", name="Skip").click()
    expect(page.locator(".progress-words").first).to_contain_text("Picture 5 of 16")
    page.locator("body").press("Escape")
    finished(page, job)
    assert page.locator(f'.strip [data-id^="{job}"]').count() in range(5, 16)


@pytest.mark.slow
def test_a_page_that_is_left_in_the_middle_finds_its_drawing_again(visit: Visit, size: str) -> None:
    page = visit(size)
    page.get_by_label("Prompt", exact=True).first.fill("a sunflower, flat style")
    for name, value in (LONG | {"batch_size": "2", "seed": "3"}).items():
        number(page, name, value)
    job = generate(page)
    expect(page.locator(".stage[data-state=running]")).to_be_visible()
    page.reload()
    page.locator("html[data-ready]").wait_for()
    expect(page.get_by_label("Prompt", exact=True).first).to_have_value("a sunflower, flat style")
    expect(page.locator(".stage[data-state=running]")).to_be_visible()
    expect(page.locator(".stage .previews img")).to_have_count(2)
    interrupt(page)
    finished(page, job)
    said = read_parameters(text_of_shown(page))
    assert (said.prompt, said.values["Seed"]) == ("a sunflower, flat style", "3")
    page.reload()  # and again when it is over
    finished(page, job)


@pytest.mark.slow
def test_what_is_finished_while_nobody_looks_is_there_afterwards(visit: Visit, server: str) -> None:
    page = visit()
    job = generate(page)
    page.goto("about:blank")
    deadline = time.monotonic() + 90
    while page.request.get(f"{server}/api/v1/jobs/{job}").json()["state"] != "finished":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    page.goto(server)
    finished(page, job)


@pytest.mark.slow
def test_history_finds_what_was_drawn_and_the_viewer_walks_through_it(visit: Visit, size: str) -> None:
    page = visit(size)
    number(page, "steps", "2")
    for prompt in ("a teapot, 3d style", "an umbrella, 3d style"):
        page.get_by_label("Prompt", exact=True).first.fill(prompt)
        finished(page, generate(page))
    page.get_by_role("tab", name="History").click()
    page.get_by_role("searchbox").fill("teapot")
    expect(page.locator(".grid .thumb")).to_have_count(1)
    page.get_by_role("searchbox").fill("3d style")
    expect(page.locator(".grid .thumb").nth(1)).to_be_visible()
    page.locator(".grid .thumb").first.click()
    viewer = page.get_by_role("dialog", name="Picture")
    expect(viewer).to_contain_text("an umbrella, 3d style")
    page.keyboard.press("ArrowRight")
    expect(viewer).to_contain_text("a teapot, 3d style")
    viewer.get_by_role("button", name="Pin").click()
    expect(viewer.get_by_role("button", name="Pinned")).to_have_attribute("aria-pressed", "true")
    viewer.get_by_role("button", name="Text to image").click()
    expect(page.get_by_label("Prompt", exact=True).first).to_have_value("a teapot, 3d style")
    page.get_by_role("tab", name="History").click()
    page.get_by_role("searchbox").fill("teapot")  # other tests of this server pin theirs
    page.get_by_text("Pinned only").click()
    expect(page.locator(".grid .thumb")).to_have_count(1)
    page.locator(".grid .thumb").click()
    page.once("dialog", lambda question: question.accept())
    viewer.get_by_role("button", name="Remove").click()
    expect(page.locator(".grid .thumb")).to_have_count(0)


@pytest.mark.slow
def test_a_dropped_picture_tells_how_it_was_made(visit: Visit, size: str, tmp_path: Path) -> None:
    text = "a lighthouse, flat style\nNegative prompt: fog\nSteps: 9, Sampler: Euler, Seed: 11, Size: 128x96"
    save_picture(Image.new("RGB", (128, 96), "teal"), tmp_path / "a.webp", text)
    save_picture(Image.new("RGB", (8, 8)), tmp_path / "b.png", "")
    page = visit(size, path="/#info")
    drop(page, ".panel-info .drop", tmp_path / "a.webp")
    said = page.locator(".info-said")
    expect(said).to_contain_text("a lighthouse, flat style")
    expect(said).to_contain_text("fog")
    expect(said).to_contain_text("128 × 96")
    said.get_by_role("button", name="Text to image").click()
    expect(page.get_by_label("Prompt", exact=True).first).to_have_value("a lighthouse, flat style")
    expect(page.locator(".field-steps input.small").first).to_have_value("9")
    expect(page.locator(".field-seed input").first).to_have_value("11")
    expect(page.locator(".field-width input")).to_have_value("128")
    page.get_by_role("tab", name="PNG info").click()
    page.locator(".panel-info input[type=file]").set_input_files(tmp_path / "b.png")
    expect(said).to_contain_text("has no parameters")


def drop(page: Any, selector: str, path: Path) -> None:
    """Drop a file on an element, as a hand would."""
    files = page.evaluate_handle(
        """([name, type, text]) => {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const files = new DataTransfer();
            files.items.add(new File([bytes], name, {type}));
            return files;
        }""",
        [path.name, f"image/{path.suffix[1:]}", base64.b64encode(path.read_bytes()).decode()],
    )
    for event in ("dragover", "drop"):
        page.locator(selector).dispatch_event(event, {"dataTransfer": files})


@pytest.mark.slow
def test_upscale(visit: Visit) -> None:
    page = visit(path="/#upscale")
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "orange").save(file, "PNG")
    page.locator(".panel-upscale input[type=file]").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": file.getvalue()}
    )
    page.locator(".field-scale input.small").fill("3")
    page.locator(".field-scale input.small").press("Tab")
    page.get_by_role("button", name="Enlarge").click()
    expect(page.locator(".upscale-after")).to_contain_text("120 × 90")


@pytest.mark.slow
def test_a_refusal_is_told_in_words(visit: Visit) -> None:
    page = visit(quiet=False)
    page.route("**/api/v1/jobs", lambda route: route.abort())
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached")
    page.get_by_role("alert").get_by_role("button", name="Close").click()
    page.unroute("**/api/v1/jobs")
    page.get_by_label("Prompt", exact=True).first.fill("x" * 30_000)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("Prompt has 30,000 characters; at most 20,000")
