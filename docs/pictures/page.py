"""The pictures of the page in docs/guide/page.md: a server of its own, a browser, and a few drawings.

    python docs/pictures/page.py [FOLDER]

Needs Chromium and the packages of the tests. The seeds are fixed; nothing else is chosen.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.page.conftest import NAMES, OPTIONS, SIZES, serving  # noqa: E402

SUBJECTS = ("an owl, 3d style", "a castle, noto style", "a sunflower, flat style", "a frog, 3d style")
CHANGES = """frog = owl
frog = snowman
3d = flat
on a light blue background
frog = sunflower
frog = cactus
frog = castle"""


def save(page: Any, folder: Path, name: str) -> None:
    path = folder / f"page-{name}.png"
    page.mouse.move(0, 0)
    page.wait_for_timeout(400)  # until colours and shadows have settled
    page.screenshot(path=path)
    Image.open(path).convert("RGB").save(path, optimize=True)
    print(path, path.stat().st_size)


def draw(page: Any, prompt: str, seed: int) -> None:
    page.locator(".prompt-block .field-prompt textarea").fill(prompt)
    box = page.locator(".workspace .field-seed input").first
    box.fill(str(seed))
    box.press("Tab")
    with page.expect_response(
        lambda reply: reply.url.endswith("/jobs") and reply.request.method == "POST"
    ) as asked:
        page.locator(".generate:visible, .generate-bar .primary:visible").click()
    expect(page.locator(f'.stage .large[data-shows^="{asked.value.json()["id"]}"] img')).to_be_visible()


def desktop(page: Any, folder: Path) -> None:
    save(page, folder, "welcome")
    for prompt in SUBJECTS:
        draw(page, prompt, 1)
    page.evaluate("scrollTo(0, 0)")
    save(page, folder, "draw")
    page.locator(".stage .send button").nth(1).click()
    expect(page.locator(".editor")).to_be_visible()
    veil = page.locator(".editor-veil")
    over = "document.querySelector('.workspace-over')"
    page.evaluate(f"{over}.scrollIntoView({{block: 'start'}}); scrollBy(0, -110)")
    box = veil.bounding_box()
    for row in (0.2, 0.27):
        page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + row * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + row * box["height"], steps=12)
        page.mouse.up()
    save(page, folder, "mask")


def board(page: Any, folder: Path) -> None:
    page.locator("#tab-board").click()
    page.locator(".board-tray .field-prompt textarea").fill("a frog, 3d style")
    page.get_by_role("radio").nth(2).click()
    page.locator(".field-changes textarea").fill(CHANGES)
    page.locator("#make-drafts").click()
    expect(page.locator(".draft[data-state=finished]")).to_have_count(CHANGES.count("\n") + 2)
    page.locator(".draft-acts button").first.click()
    for number in (1, 2):
        page.locator(".drafts:not(.kept) .draft-pick input").nth(number).check()
    page.evaluate("scrollTo(0, 0)")
    save(page, folder, "board")


@contextmanager
def visit(browser: Any, address: str, size: str, scheme: str, locale: str = "en-US") -> Iterator[Any]:
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        locale=locale,
        has_touch=size == "phone",
    )
    page = context.new_page()
    page.goto(address)
    page.locator("html[data-ready]").wait_for()
    yield page
    context.close()


def main() -> None:
    import shutil

    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    chromium = next(filter(None, map(shutil.which, NAMES)))
    expect.set_options(timeout=120_000)
    with (
        tempfile.TemporaryDirectory() as data,
        serving(Path(data)) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
        with visit(browser, address, "desktop", "light") as page:
            page.set_default_timeout(120_000)
            desktop(page, folder)
            board(page, folder)
        with visit(browser, address, "desktop", "dark", "fr-FR") as page:
            save(page, folder, "dark")
            page.locator("#tab-history").click()
            page.locator(".grid .thumb").first.wait_for()
        with visit(browser, address, "phone", "dark") as page:
            save(page, folder, "phone")
        browser.close()


if __name__ == "__main__":
    main()
