"""The queue popup: focus is kept on updates, and jobs show the server's state."""

from typing import Any

import pytest

from tests.page.conftest import Visit

pytest.importorskip("playwright")
from playwright.sync_api import expect

SLOW = "0.03 a fox"  # seconds for each step of the server that pretends


STREAMS = """
    window.streams = [];
    window.EventSource = class extends window.EventSource {
        constructor(...values) { super(...values); window.streams.push(this); }
    };
    window.unseen = location.hash === "#unseen";
    Object.defineProperty(document, "hidden", { get: () => window.unseen });
"""
"""Counts the page's streams, and lets a test say whether the page is seen."""

OPEN = "streams.filter((each) => each.readyState !== EventSource.CLOSED).length"


def error(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": code}}


def a_job(job: str, state: str) -> dict[str, Any]:
    return {"id": job, "state": state, "kind": "txt2img", "label": "page", "request": {}, "pictures": []}


def seen(page: Any, there: bool) -> None:
    page.evaluate(
        "(there) => { window.unseen = !there; document.dispatchEvent(new Event('visibilitychange')); }", there
    )


def look_away_and_back(page: Any) -> None:
    """Until the stream is closed, and then a new one is open."""
    page.evaluate("streams.at(-1).close()")
    page.evaluate("window.dispatchEvent(new PageTransitionEvent('pagehide'))")
    seen(page, False)
    seen(page, True)


def submit(page: Any, **body: Any) -> str:
    address = page.url.split("#")[0].rstrip("/")
    reply = page.request.post(f"{address}/api/v1/jobs", data={"prompt": SLOW, "steps": 150, **body})
    assert reply.status == 202, reply.text()
    return str(reply.json()["id"])


def state(page: Any, job: str) -> str:
    address = page.url.split("#")[0].rstrip("/")
    return str(page.request.get(f"{address}/api/v1/jobs/{job}").json()["state"])


def opened(page: Any, jobs: int) -> Any:
    page.locator(".queue-chip").click()
    rows = page.locator(".queue-list li")
    expect(rows).to_have_count(jobs)
    return rows


def told_anew(page: Any, row: Any) -> None:
    """Wait until an event has changed what a row of the queue says."""
    said = row.locator(".queue-told")
    expect(said).to_contain_text("Step")
    before = said.inner_text()
    expect(said).not_to_have_text(before)


def test_a_click_on_cancel_is_not_lost_while_events_come(quick_visit: Visit) -> None:
    page = quick_visit()
    jobs = [submit(page, count=8) for _ in range(3)]
    rows = opened(page, 3)
    box = rows.nth(1).get_by_role("button", name="Cancel").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    told_anew(page, rows.first)
    told_anew(page, rows.first)
    page.mouse.up()
    expect(rows).to_have_count(2)
    assert state(page, jobs[1]) == "cancelled"
    assert {state(page, job) for job in (jobs[0], jobs[2])} <= {"queued", "running"}


@pytest.mark.slow
def test_the_focus_stays_in_the_queue(quick_visit: Visit) -> None:
    page = quick_visit()
    for _ in range(3):
        submit(page, count=8)
    rows = opened(page, 3)
    rows.nth(1).get_by_role("button", name="Cancel").focus()
    page.evaluate("window.before = document.activeElement")
    told_anew(page, rows.first)
    submit(page)
    expect(rows).to_have_count(4)
    assert page.evaluate("document.activeElement === window.before")
    page.keyboard.press("Enter")
    expect(rows).to_have_count(3)
    # The one that took its place, and in the end what is around them.
    assert (
        page.evaluate("[...document.querySelectorAll('.queue-list button')].indexOf(document.activeElement)")
        == 1
    )
    for left in (2, 1, 0):
        page.keyboard.press("Enter")
        expect(rows).to_have_count(left)
    assert page.evaluate("document.activeElement.id") == "queue-paper"
    expect(page.locator("#queue-paper")).to_contain_text("The queue is empty.")


@pytest.mark.slow
def test_a_job_that_is_gone_leaves_the_queue_and_one_that_cannot_be_asked_for_stays(
    quick_visit: Visit,
) -> None:
    page = quick_visit(quiet=False, script=STREAMS)
    job = submit(page, count=8)
    page.route(
        "**/api/v1/jobs", lambda route: route.fulfill(status=202, json=a_job("of-a-server-before", "queued"))
    )
    with page.expect_response(lambda reply: reply.url.endswith("/jobs")):
        page.keyboard.press("Control+Enter")
    page.unroute("**/api/v1/jobs")
    rows = opened(page, 2)
    page.route(f"**/api/v1/jobs/{job}", lambda route: route.fulfill(status=503, json=error("busy")))
    with page.expect_response(lambda reply: reply.status == 503):
        look_away_and_back(page)
    expect(rows).to_have_count(1)  # the server has no job of the other name
    expect(rows.first).to_contain_text("Step")
    # A job that ends while nobody can be asked is seen to be over once the server answers again.
    page.evaluate("streams.forEach((each) => each.close())")
    page.request.post(f"{page.url.split('#')[0]}api/v1/jobs/{job}/cancel", data={})
    expect(rows).to_have_count(1)
    page.unroute(f"**/api/v1/jobs/{job}")
    expect(rows).to_have_count(0)


@pytest.mark.slow
@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (409, "conflict")])
def test_cancelling_what_is_over_or_gone_takes_it_off_the_queue(
    quick_visit: Visit, status: int, code: str
) -> None:
    page = quick_visit(quiet=False, script=STREAMS)
    job = submit(page, count=8)
    rows = opened(page, 1)
    page.evaluate("streams.forEach((each) => each.close())")  # no event tells it
    page.route("**/cancel", lambda route: route.fulfill(status=status, json=error(code)))
    answers = {
        404: {"status": 404, "json": error("not_found")},
        409: {"json": a_job(job, "cancelled")},
    }
    page.route(f"**/api/v1/jobs/{job}", lambda route: route.fulfill(**answers[status]))
    rows.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(rows).to_have_count(0)


@pytest.mark.slow
def test_a_draft_is_dropped_where_its_job_is_gone_and_kept_where_the_server_is_in_trouble(
    quick_visit: Visit,
) -> None:
    page = quick_visit(quiet=False)
    job = submit(page, label="page-board", prompt="a fox", steps=2)
    same = {"request": {"prompt": "a fox"}, "note": {"kind": "seeds"}, "picture": None, "pinned": False}
    cells = [{"id": id, "job": id, "refined": False, "failed": None, **same} for id in (job, "no-such-job")]
    page.evaluate("(cells) => localStorage.setItem('pochade.board', JSON.stringify(cells))", cells)
    page.route(f"**/api/v1/jobs/{job}", lambda route: route.fulfill(status=500, json=error("internal")))
    with page.expect_response(lambda reply: reply.status == 500 and job in reply.url):
        page.goto(page.url.split("#")[0] + "#board")
        page.reload()
    page.locator("html[data-ready]").wait_for()
    expect(page.locator(".draft")).to_have_count(1)
    expect(page.locator(".draft")).to_have_attribute("data-id", job)
    page.unroute(f"**/api/v1/jobs/{job}")
    expect(page.locator(".draft[data-state=finished]")).to_have_count(1)

    # What the server does not remove stays on the board, and why is said.
    page.route("**/api/v1/pictures/*", refuse_removal)
    page.locator(".draft-pick input").check()
    remove = page.get_by_role("toolbar").get_by_role("button", name="Remove")
    remove.click()
    expect(page.get_by_role("alert")).to_contain_text("Internal server error")
    expect(page.locator(".draft")).to_have_count(1)
    page.unroute("**/api/v1/pictures/*")
    page.locator(".draft-pick input").check()
    remove.click()
    expect(page.locator(".draft")).to_have_count(0)


def refuse_removal(route: Any) -> None:
    if route.request.method == "DELETE":
        route.fulfill(status=500, json=error("internal"))
    else:
        route.continue_()


@pytest.mark.slow
def test_jobs_and_previews_are_not_kept_for_ever(quick_visit: Visit) -> None:
    page = quick_visit()
    kept = page.evaluate(
        """async () => {
            const { openHub } = await import("/static/js/jobs.js");
            const heard = {};
            window.EventSource = class {
                static CLOSED = 2;
                addEventListener(type, listener) { heard[type] = listener; }
                close() {}
            };
            const hub = openHub(["page", "page-board"]);
            hub.connect(async () => null);
            const at = (n) => new Date(1e12 + 1000 * n).toISOString();
            const job = (n, label) => ({
                id: `${label}${n}`, label, state: "queued", created: at(n), pictures: [],
            });
            const tell = (type, event) => heard[type]({ data: JSON.stringify(event) });
            for (let n = 0; n < 300; n += 1) {
                for (const label of ["page", "page-board", `other${n % 7}`]) {
                    const id = `${label}${n}`;
                    hub.take(job(n, label));
                    tell("preview", { job: id, images: ["data:image/jpeg;base64,aGVsbG8="], picture: 0 });
                    const end = ["finished", "failed", "cancelled"][n % 3];
                    if (n % 100) tell(end, { job: id, pictures: [] });
                }
            }
            const all = [...hub.jobs.get().values()];
            const count = (test) => all.filter(test).length;
            const over = (each) => !["queued", "running"].includes(each.state);
            return {
                page: count((each) => each.label === "page" && over(each)),
                board: count((each) => each.label === "page-board" && over(each)),
                others: count((each) => each.label.startsWith("other") && over(each)),
                active: count((each) => !over(each)),
                newest: hub.jobs.get().has("page299"),
                oldest: hub.jobs.get().has("page1"),
                previews: count((each) => over(each) && each.preview.length),
                live: count((each) => !over(each) && each.preview.length),
            };
        }"""
    )
    assert kept == {
        "page": 48,
        "board": 48,
        "others": 48,
        "active": 9,
        "newest": True,
        "oldest": False,
        "previews": 0,
        "live": 9,
    }


# --- the stream of events


@pytest.mark.slow
def test_a_page_that_nobody_sees_closes_its_stream(quick_visit: Visit) -> None:
    page = quick_visit(script=STREAMS)
    page.clock.install()
    page.reload()
    page.locator("html[data-ready]").wait_for()
    assert page.evaluate(OPEN) == 1
    seen(page, False)
    page.clock.fast_forward(20_000)
    assert page.evaluate(OPEN) == 1  # a glance elsewhere costs nothing
    seen(page, True)
    page.clock.fast_forward(40_000)
    assert page.evaluate(OPEN) == 1
    seen(page, False)
    page.clock.fast_forward(31_000)
    assert page.evaluate(OPEN) == 0
    job = submit(page, prompt="a fox", steps=1, label="page")
    seen(page, True)
    assert page.evaluate(OPEN) == 1
    assert page.evaluate("streams.length") == 2
    expect(page.locator(".queue-chip")).to_contain_text("Ready")
    assert job


@pytest.mark.slow
def test_a_page_opened_in_the_background_closes_its_stream_too(quick_visit: Visit) -> None:
    page = quick_visit(script=STREAMS.replace('location.hash === "#unseen"', "true"))
    page.clock.install()
    page.reload()
    page.locator("html[data-ready]").wait_for()
    assert page.evaluate(OPEN) == 1
    page.clock.fast_forward(31_000)
    assert page.evaluate(OPEN) == 0
    page.clock.fast_forward(60_000)
    assert page.evaluate("streams.length") == 1
    seen(page, True)
    assert page.evaluate(OPEN) == 1


@pytest.mark.slow
def test_two_reasons_to_connect_again_make_one_stream(quick_visit: Visit) -> None:
    page = quick_visit(script=STREAMS, quiet=False)
    page.clock.install()
    page.route("**/api/v1/events", lambda route: route.fulfill(status=503, body="{}"))
    page.reload()
    page.locator("html[data-ready]").wait_for()
    expect(page.locator(".queue-chip")).to_contain_text("Connecting")
    page.unroute("**/api/v1/events")
    seen(page, False)
    seen(page, True)  # connects; the timer that was to connect is there no more
    page.clock.fast_forward(10_000)
    page.clock.fast_forward(10_000)
    expect(page.locator(".queue-chip")).to_contain_text("Ready")
    assert page.evaluate(OPEN) == 1
