"""A server with a key: the page asks for it, once."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.page.conftest import answering, serving

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
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("Invalid key.")
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


@pytest.mark.parametrize(("language", "words"), [("en-US", "Opening"), ("fr-FR", "Ouverture")])
def test_the_page_says_that_it_opens(browser: Any, quick: str, language: str, words: str) -> None:
    """Until the lists of models and the rest are there; where they never come, it stops saying so."""
    context = browser.new_context(locale=language)
    page = context.new_page()
    held: list[Any] = []
    page.route("**/api/v1/status", lambda route: held.append(route))
    page.goto(quick)
    expect(page.locator("#opening")).to_contain_text(words)
    expect(page.locator(".bar .brand")).to_contain_text("Pochade")
    while not held:
        page.wait_for_timeout(50)
    held[0].continue_()
    page.locator("html[data-ready]").wait_for()
    expect(page.locator("#opening")).to_have_count(0)
    expect(page.locator(".brand")).to_have_count(1)
    page.unroute("**/api/v1/status")
    page.route("**/api/v1/status", lambda route: route.abort())
    page.reload()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("#opening")).to_have_count(0)
    context.close()


def until(page: Any, condition: str) -> None:
    """As `page.wait_for_function`, whose second look the page's Content-Security-Policy forbids."""
    for _ in range(1200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"it never was so: {condition}")


STREAMS = """
    window.streams = [];
    window.EventSource = class extends window.EventSource {
        constructor(...values) { super(...values); window.streams.push(this); }
    };
"""


@pytest.mark.parametrize(
    ("language", "words", "label", "enter", "tab"),
    [
        ("en-US", "Your session has expired", "Key", "Log in", "History"),
        ("fr-FR", "Votre session a expiré", "Clé", "Se connecter", "Historique"),
    ],
)
def test_the_key_is_asked_for_again_when_the_session_is_over(
    browser: Any, tmp_path: Path, language: str, words: str, label: str, enter: str, tab: str
) -> None:
    """And what was asked is asked then, with all that was written still there."""
    (tmp_path / "keys").write_text(f"ann:{KEY}\nbob:{KEY}-too\n")
    command = [
        "tests.server.launch",
        "0",
        str(tmp_path / "data"),
        json.dumps({"keys": str(tmp_path / "keys")}),
    ]
    with answering(command, tmp_path) as address:
        context = browser.new_context(locale=language)
        context.add_init_script(STREAMS)
        page = context.new_page()
        page.goto(address)
        page.locator("#key").fill(KEY)
        page.keyboard.press("Enter")
        page.locator("html[data-ready]").wait_for()
        page.locator(".prompt-block .field-prompt textarea").fill("a fox that is not lost")
        context.clear_cookies()
        page.keyboard.press("Control+Enter")
        paper = page.locator("dialog.login")
        expect(paper).to_contain_text(words)
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        expect(paper).to_be_visible()
        paper.get_by_label(label).fill("wrong-" + KEY)
        paper.get_by_role("button", name=enter).click()
        expect(paper.get_by_role("alert")).not_to_be_empty()
        paper.get_by_label(label).fill(KEY)
        paper.get_by_role("button", name=enter).click()
        expect(page.locator(".stage .large-picture img")).to_be_visible()
        expect(paper).to_have_count(0)
        assert page.locator(".stage .large-picture img").get_attribute("alt") == "a fox that is not lost"

        # Several questions at once, of the panels and of the stream, are one to the visitor.
        context.clear_cookies()
        page.evaluate("streams.at(-1).close()")
        page.evaluate("window.dispatchEvent(new PageTransitionEvent('pagehide'))")
        page.evaluate(
            """() => {
                document.dispatchEvent(new Event("visibilitychange"));
                for (const panel of ["history", "settings"]) document.getElementById(`tab-${panel}`).click();
            }"""
        )
        expect(paper).to_have_count(1)
        count = page.evaluate("streams.length")
        paper.get_by_label(label).fill(KEY)
        page.keyboard.press("Enter")
        expect(paper).to_have_count(0)
        expect(page.locator(".panel-settings .facts").last).to_contain_text("ann")
        until(page, f"streams.length > {count}")
        until(page, "streams.filter((each) => each.readyState === EventSource.OPEN).length === 1")

        # Who logs in as another user gets a page of their own.
        context.clear_cookies()
        page.get_by_role("tab", name=tab).click()
        expect(paper).to_have_count(1)
        with page.expect_navigation():
            paper.get_by_label(label).fill(f"{KEY}-too")
            page.keyboard.press("Enter")
        page.locator("html[data-ready]").wait_for()
        expect(page.locator(".grid .thumb")).to_have_count(0)
        context.close()
