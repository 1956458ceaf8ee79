"""Lists on the page: the history keeps its position; entries missing on the server can be removed."""

import re
from typing import Any

import pytest

from tests.page.conftest import Visit
from tests.page.test_queue import a_job, error, submit

pytest.importorskip("playwright")
from playwright.sync_api import expect

pytestmark = pytest.mark.slow
IDS = "[...document.querySelectorAll('.grid .thumb')].map((each) => each.dataset.id)"


def drawn(page: Any, **body: Any) -> str:
    job = submit(page, **body)
    address = page.url.split("#")[0].rstrip("/")
    while page.request.get(f"{address}/api/v1/jobs/{job}").json()["state"] != "finished":
        page.wait_for_timeout(50)
    return job


def searched(page: Any, word: str, count: int) -> Any:
    """The pictures that the history finds."""
    page.get_by_role("tab", name="History").click()
    with page.expect_response(lambda reply: f"q={word}" in reply.url):
        page.get_by_role("searchbox").fill(word)
    thumbs = page.locator(f'.grid .thumb[aria-label*="{word}"]')
    expect(thumbs).to_have_count(count)
    expect(page.locator(".grid .thumb")).to_have_count(count)
    return thumbs


def test_the_history_keeps_its_page_when_a_job_ends(quick_visit: Visit) -> None:
    page = quick_visit(quiet=False)
    for _ in range(3):
        drawn(page, prompt="zebra", steps=1, count=50)
    thumbs = searched(page, "zebra", 60)
    page.get_by_role("button", name="Show more").click()
    expect(thumbs).to_have_count(120)
    before = page.evaluate(IDS)
    thumbs.nth(100).focus()
    page.evaluate("window.before = document.activeElement")
    place = page.evaluate("window.before.getBoundingClientRect().top")

    job = drawn(page, prompt="zebra", steps=1, count=2)
    expect(thumbs).to_have_count(122)
    after = page.evaluate(IDS)
    assert after[2:] == before
    assert all(id.startswith(job) for id in after[:2])
    assert page.evaluate("document.activeElement === window.before")
    assert abs(page.evaluate("window.before.getBoundingClientRect().top") - place) < 400

    # More new ones than a page holds: none is left out, and none of those before.
    drawn(page, prompt="zebra", steps=1, count=64)
    expect(thumbs).to_have_count(186)
    page.get_by_role("button", name="Show more").click()
    expect(thumbs).to_have_count(216)
    ids = page.evaluate(IDS)
    assert len(set(ids)) == 216
    assert page.get_by_role("button", name="Show more").is_hidden()

    # "Show more" counts though a job ends meanwhile; another panel and back changes nothing.
    page.get_by_role("tab", name="Settings").click()
    page.get_by_role("tab", name="History").click()
    expect(thumbs).to_have_count(216)
    page.get_by_role("searchbox").fill("no such animal")
    expect(thumbs).to_have_count(0)
    expect(page.locator(".panel-history")).to_contain_text("No results.")


def test_a_click_on_show_more_is_not_lost_when_a_job_ends(quick_visit: Visit) -> None:
    page = quick_visit()
    for _ in range(2):
        drawn(page, prompt="okapi", steps=1, count=50)
    thumbs = searched(page, "okapi", 60)
    held: list[Any] = []
    further = re.compile(r"/pictures\?.*before=")
    page.route(further, lambda route: held.append(route))
    page.get_by_role("button", name="Show more").click()
    drawn(page, prompt="okapi", steps=1)
    page.wait_for_timeout(600)  # the pause after which the history looks again
    for route in held:
        route.continue_()
    page.unroute(further)
    expect(thumbs).to_have_count(101)


def test_a_style_that_the_server_has_no_more_is_let_go(quick_visit: Visit) -> None:
    page = quick_visit()
    styles = [
        {"name": name, "prompt": f"{{prompt}}, {name}", "negative_prompt": ""} for name in ("flat", "ink")
    ]
    page.route("**/api/v1/styles", lambda route: route.fulfill(json={"styles": styles}))
    page.reload()
    page.locator("html[data-ready]").wait_for()
    page.get_by_text("Styles", exact=True).click()
    chips = page.locator("[data-style]")
    page.get_by_role("button", name="flat", exact=True).click()
    page.get_by_role("button", name="ink", exact=True).click()
    expect(page.locator(".prompt-extras .badge").first).to_have_text("2")

    styles.pop()
    page.locator("#tab-settings").click()
    page.get_by_role("button", name="Look for new models").click()
    expect(page.locator(".note")).to_contain_text("are up to date")
    page.locator("#tab-draw").click()
    gone = page.get_by_role("button", name="ink (not on the server)")
    expect(gone).to_have_attribute("aria-pressed", "true")
    gone.focus()
    page.keyboard.press("Enter")
    expect(chips).to_have_count(1)
    assert page.evaluate("document.activeElement.dataset.style") == "flat"
    with page.expect_request(lambda each: each.url.endswith("/jobs") and each.method == "POST") as asked:
        page.route("**/api/v1/jobs", lambda route: route.fulfill(status=202, json=a_job("x", "cancelled")))
        page.locator(".generate").click()
    assert asked.value.post_data_json["styles"] == ["flat"]

    # The same for one that was chosen on an earlier visit, when there are no styles at all.
    styles.clear()
    page.reload()
    page.locator("html[data-ready]").wait_for()
    page.get_by_text("Styles", exact=True).click()
    page.get_by_role("button", name="flat (not on the server)").click()
    expect(chips).to_have_count(0)
    expect(page.get_by_text("No styles.")).to_be_visible()


@pytest.mark.parametrize(
    ("field", "path", "kind", "panel"),
    [("hires_upscaler", "upscalers", "latent", "draw"), ("upscaler", "upscalers", "model", "upscale")],
)
def test_what_was_chosen_from_a_list_and_is_gone_is_shown_as_gone(
    quick_visit: Visit, field: str, path: str, kind: str, panel: str
) -> None:
    page = quick_visit(path=f"/#{panel}")
    known = [{"name": "Lanczos", "kind": "picture"}, {"name": "Latent", "kind": "latent"}]
    there = [*known, {"name": "4x-foo", "kind": kind}]
    page.route(f"**/api/v1/{path}", lambda route: route.fulfill(json={path: there}))
    page.reload()
    page.locator("html[data-ready]").wait_for()
    if panel == "draw":
        page.get_by_text("Hires fix").click()
    list_ = page.locator(f".field-{field} select")
    list_.select_option("4x-foo")
    there.pop()
    page.reload()
    page.locator("html[data-ready]").wait_for()
    assert list_.evaluate("list => list.selectedOptions[0].textContent") == "4x-foo (not on the server)"
    if panel == "draw":
        page.get_by_text("Hires fix").click()
    list_.select_option("Lanczos")
    assert list_.locator("option").all_inner_texts().count("4x-foo (not on the server)") == 0


def test_a_history_that_cannot_be_asked_for_stays_as_it_is(quick_visit: Visit) -> None:
    page = quick_visit(quiet=False)
    drawn(page, prompt="tapir", steps=1, count=3)
    thumbs = searched(page, "tapir", 3)
    search = re.compile(r"/pictures\?")
    page.route(search, lambda route: route.fulfill(status=503, json=error("busy")))
    drawn(page, prompt="tapir", steps=1)
    expect(page.get_by_role("alert")).to_be_visible()
    expect(thumbs).to_have_count(3)
    page.unroute(search)
    drawn(page, prompt="tapir", steps=1)
    expect(thumbs).to_have_count(5)
