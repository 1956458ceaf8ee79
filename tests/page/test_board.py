"""The draft board: vary, pin, compare, mix, refine, and persistence between visits."""

from typing import Any

import pytest

from tests.page.conftest import Visit

pytest.importorskip("playwright")
from playwright.sync_api import expect

pytestmark = pytest.mark.slow


def set_number(page: Any, name: str, value: str) -> None:
    box = page.locator(f".board-tray .field-{name} input.small, dialog[open] .field-{name} input.small")
    box.fill(value)
    box.press("Tab")


def all_drawn(page: Any, n: int) -> None:
    expect(page.locator(".draft[data-state=finished]")).to_have_count(n)
    expect(page.locator(".draft")).to_have_count(n)


def choose(page: Any, *numbers: int) -> None:
    for number in numbers:
        page.locator(".draft-pick input").nth(number).check()


def words(page: Any) -> list[str]:
    return [str(each) for each in page.locator(".draft-words").all_inner_texts()]


def test_an_idea_becomes_a_sheet_that_is_pinned_compared_mixed_and_refined(visit: Visit, size: str) -> None:
    page = visit(size, path="/#board")
    page.locator(".panel-board").get_by_label("Prompt", exact=True).fill("a red apple, flat style")
    set_number(page, "drafts", "3")
    set_number(page, "draft_steps", "2")
    page.get_by_role("button", name="Make drafts").click()
    expect(page.locator(".draft")).to_have_count(3)
    all_drawn(page, 3)
    assert len(set(words(page))) == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]

    page.locator(".drafts:not(.kept) .draft").nth(1).get_by_role("button", name="Pin").click()
    expect(page.locator(".kept .draft.pinned")).to_have_count(1)

    choose(page, 0, 2)
    bar = page.get_by_role("toolbar", name="Actions for the selected drafts")
    expect(bar).to_contain_text("2 selected")
    bar.get_by_role("button", name="Compare").click()
    paper = page.get_by_role("dialog", name="Compare")
    expect(paper.locator("img")).to_have_count(2)
    expect(paper).to_contain_text("Seed")
    expect(paper).not_to_contain_text("Sampler")
    page.keyboard.press("Escape")

    bar.get_by_role("button", name="Mix").click()
    all_drawn(page, 6)
    assert {"Mixed, 25 %", "Mixed, 50 %", "Mixed, 75 %"} <= set(words(page))

    page.locator(".drafts:not(.kept) .draft").first.get_by_role("button", name="Refine").click()
    set_number(page, "refine_steps", "4")
    page.get_by_role("dialog", name="Refine").get_by_role("button", name="Refine").click()
    all_drawn(page, 7)
    expect(page.locator(".draft.refined")).to_have_count(1)

    before = sorted(words(page))
    page.reload()
    page.locator("html[data-ready]").wait_for()
    all_drawn(page, 7)
    assert sorted(words(page)) == before
    page.once("dialog", lambda question: question.accept())
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".draft")).to_have_count(1)
    expect(page.locator(".kept .draft")).to_have_count(1)


LONG = "on a light blue background with many white clouds"


def test_words_are_changed_and_merged(visit: Visit) -> None:
    page = visit(path="/#board")
    page.locator(".panel-board").get_by_label("Prompt", exact=True).fill("a fox, flat style")
    set_number(page, "draft_steps", "1")
    page.get_by_role("radio", name="Words").click()
    page.get_by_label("Changes, one per line").fill(f"fox = owl\n{LONG}")
    page.keyboard.press("Control+Enter")
    all_drawn(page, 3)
    assert words(page) == ["Prompt", "fox = owl", LONG]
    cut = "all => all.filter((each) => each.scrollWidth > each.clientWidth).length"
    assert page.locator(".draft-words").evaluate_all(cut) == 0
    choose(page, 0, 1)
    asked: list[Any] = []
    page.on("request", lambda each: asked.append(each.post_data_json) if each.method == "POST" else None)
    page.get_by_role("button", name="Mix").click()
    all_drawn(page, 6)
    prompts = [each["prompt"] for each in asked if each and "prompt" in each]
    assert prompts == [
        "a [fox:owl:0.52], flat style",
        "a [fox:owl:0.35], flat style",
        "a [fox:owl:0.18], flat style",
    ]


def test_more_like_this_keeps_the_seed(visit: Visit) -> None:
    page = visit(path="/#board")
    set_number(page, "drafts", "2")
    set_number(page, "draft_steps", "1")
    page.get_by_role("button", name="Make drafts").click()
    all_drawn(page, 2)
    asked: list[Any] = []
    page.on("request", lambda each: asked.append(each.post_data_json) if each.method == "POST" else None)
    page.locator(".draft").first.get_by_role("button", name="More like this").click()
    all_drawn(page, 6)
    assert len({each["seed"] for each in asked}) == 1
    assert len({each["variation"]["seed"] for each in asked}) == 4


@pytest.mark.parametrize(
    ("a", "b", "share", "merged"),
    [
        ("a fox, 3d style", "a fox, 3d style", 0.5, "a fox, 3d style"),
        ("a fox, 3d style", "an owl, 3d style", 0.5, "[a fox:an owl:0.35], 3d style"),
        ("a fox", "a fox in snow", 0.5, "a fox[: in snow:0.35]"),
        ("", "a fox", 0.25, "[:a fox:0.52]"),
        ("a (fox:1.2)", "a cat", 0.25, "a (fox:1.2) :0.75 AND a cat :0.25"),
    ],
)
def test_merged_prompts(visit: Visit, a: str, b: str, share: float, merged: str) -> None:
    page = visit(path="/#board")
    found = page.evaluate(
        "async ([a, b, share]) => (await import('/static/js/board/plan.js')).mergedPrompt(a, b, share)",
        [a, b, share],
    )
    assert found == merged
