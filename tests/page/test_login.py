"""A server with a key: the page asks for it, once."""

from pathlib import Path
from typing import Any

import pytest

from tests.page.conftest import serving

pytest.importorskip("playwright")
from playwright.sync_api import expect

pytestmark = pytest.mark.slow
KEY = "correct-horse-battery-staple"


def test_the_key_is_asked_for_and_remembered(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    with serving(tmp_path, "--key-file", str(tmp_path / "key")) as address:
        context = browser.new_context(locale="en-US")
        page = context.new_page()
        page.goto(address)
        page.get_by_label("Key").fill("wrong")
        page.get_by_role("button", name="Enter").click()
        expect(page.get_by_role("alert")).to_contain_text("That is not the key.")
        page.get_by_label("Key").fill(KEY)
        page.keyboard.press("Enter")
        page.locator("html[data-ready]").wait_for()
        page.keyboard.press("Control+Enter")
        expect(page.locator(".stage .large-picture img")).to_be_visible()
        page.reload()
        page.locator("html[data-ready]").wait_for()
        assert KEY not in str(context.cookies())
        page.locator("#tab-settings").click()
        page.get_by_role("button", name="Log out").click()
        page.get_by_label("Key").wait_for()
        context.close()
