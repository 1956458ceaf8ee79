"""Login sessions: expiry, logout, open streams, stored data."""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from pochade.jobs import accounts
from pochade.jobs.database import Database
from pochade.jobs.live import LiveJobs
from pochade.jobs.records import Job
from pochade.jobs.storage import Storage
from pochade.jobs.tables import sessions
from pochade.server.auth import Keys, _checked
from pochade.server.dialects.native import routes as native
from pochade.server.dialects.openai import routes as openai
from pochade.server.events import EventStream
from pochade.server.login import LASTS_S, Sessions
from pochade.server.middleware import MAX_CONCURRENT, AccessRules, ErrorReply, GuardMiddleware
from pochade.server.rate_limit import Rate, TokenBuckets
from pochade.server.receive import BodyLimits, LoginSession, while_open
from tests.server.conftest import ANNS_KEY, BOBS_KEY, KEYS, Served, Start

USERS = Keys({"ann": _checked(ANNS_KEY, "the key"), "bob": _checked(BOBS_KEY, "the key")})
ANN, BOB = ({"Authorization": f"Bearer {key}"} for key in (ANNS_KEY, BOBS_KEY))


class Clock:
    now = 1_764_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(Storage(tmp_path / "data").make().database)
    yield database
    database.close()


def sessions_of(database: Database, clock: Clock, keys: Keys = USERS) -> Sessions:
    async def ask(function: Callable[..., Any], *arguments: Any) -> Any:
        return function(database, *arguments)

    return Sessions(keys, ask, clock)


# --- how long they last -----------------------------------------------------------------------------------


def test_a_session_that_is_kept_in_memory_ends_when_it_is_to(database: Database, clock: Clock) -> None:
    async def run() -> None:
        kept = sessions_of(database, clock)
        token = await kept.open("ann")
        clock.now += LASTS_S - 1
        found = await kept.find(token)
        assert found is not None and found.owner == "ann"
        clock.now += 2
        assert await kept.find(token) is None
        assert found.over.is_set()
        assert await sessions_of(database, clock).find(token) is None

    asyncio.run(run())


@pytest.mark.parametrize("late", ["read", "closed", "closed long after"])
def test_logging_out_wins_over_a_request_that_restores_the_session(
    database: Database, clock: Clock, late: str
) -> None:
    """late: what comes back last from its thread, the reading or the closing of the session."""

    async def run() -> None:
        token = await sessions_of(database, clock).open("ann")
        done = {"read": asyncio.Event(), "closed": asyncio.Event(), "restored": asyncio.Event()}

        async def ask(function: Callable[..., Any], *arguments: Any) -> Any:
            if function is accounts.close_session:
                if late != "read":
                    await done["read" if late == "closed" else "restored"].wait()
                result = function(database, *arguments)
                done["closed"].set()
                return result
            result = function(database, *arguments)
            done["read"].set()
            if late == "read":
                await done["closed"].wait()
            return result

        kept = Sessions(USERS, ask, clock)
        closing = asyncio.create_task(kept.close(token)) if late == "closed long after" else None
        await asyncio.sleep(0)
        restoring = asyncio.create_task(kept.find(token))
        await asyncio.sleep(0)
        closing = closing or asyncio.create_task(kept.close(token))
        await restoring
        done["restored"].set()
        await closing
        assert await kept.find(token) is None, "it came to life again"

    asyncio.run(run())


def test_requests_that_come_together_restore_one_session(database: Database, clock: Clock) -> None:
    async def run() -> None:
        token = await sessions_of(database, clock).open("ann")
        kept = sessions_of(database, clock)
        found = await asyncio.gather(*(kept.find(token) for _ in range(5)))
        assert found[0] is not None and all(each is found[0] for each in found)

    asyncio.run(run())


def counted_proofs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The owners whose proofs are computed from now on."""
    computed: list[str] = []
    proof = Keys.proof

    def counted(keys: Keys, owner: str, token: str) -> str:
        computed.append(owner)
        return proof(keys, owner, token)

    monkeypatch.setattr(Keys, "proof", counted)
    return computed


def test_a_page_that_opens_after_a_login_does_not_wait_for_proofs(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        kept = sessions_of(database, clock)
        token = await kept.open("ann")
        computed = counted_proofs(monkeypatch)
        found = await asyncio.gather(*(kept.find(token) for _ in range(9)))
        assert all(each is not None and each.owner == "ann" for each in found)
        assert computed == []
        # After a restart of the server one proof is enough for all that come at once.
        again = sessions_of(database, clock)
        assert None not in await asyncio.gather(*(again.find(token) for _ in range(9)))
        assert computed == ["ann"]

    asyncio.run(run())


def test_a_request_that_goes_does_not_take_the_session_from_the_others(
    database: Database, clock: Clock
) -> None:
    async def run() -> None:
        token = await sessions_of(database, clock).open("ann")
        kept = sessions_of(database, clock)
        first, second = (asyncio.create_task(kept.find(token)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        found = await second
        assert found is not None and found.owner == "ann"
        assert first.cancelled()

    asyncio.run(run())


def test_another_key_or_a_user_who_is_gone_has_no_session(database: Database, clock: Clock) -> None:
    async def run() -> None:
        token = await sessions_of(database, clock).open("ann")
        for keys in (
            Keys({"ann": _checked("ann's other key", "the key")}),
            Keys({"bob": _checked(ANNS_KEY, "the key")}),
        ):
            assert await sessions_of(database, clock, keys).find(token) is None
        again = await sessions_of(database, clock).find(token)
        assert again is not None and again.owner == "ann"

    asyncio.run(run())


def test_strangers_write_nothing_and_look_nothing_up(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        kept = sessions_of(database, clock)
        token = await kept.open("ann")
        monkeypatch.setattr(Database, "write", lambda self: pytest.fail("it was written to"))
        for guess in ("A" * 43, token[:-1] + ("A" if token[-1] != "A" else "B")):
            assert await kept.find(guess) is None
            await kept.close(guess)
        monkeypatch.setattr(Database, "read", lambda self: pytest.fail("it was looked up"))
        for guess in ("", "x", token + "x", "é" * 43, "../" * 20):
            assert await kept.find(guess) is None
            await kept.close(guess)

    asyncio.run(run())


# --- what is on the disk ----------------------------------------------------------------------------------


def test_a_stolen_store_does_not_let_keys_be_guessed_quickly(database: Database, clock: Clock) -> None:
    async def run() -> None:
        kept = sessions_of(database, clock)
        for _ in range(2):
            await kept.open("ann")

    asyncio.run(run())
    with database.read() as connection:
        rows = connection.execute(select(sessions.c.proof)).scalars().all()
    assert len(set(rows)) == 2, "the same key gives the same proof: one guess counts for all"
    digest = hashlib.sha256(ANNS_KEY.encode()).digest()
    fast = {hashlib.sha256(b"session" + digest).hexdigest(), digest.hex()}
    assert all(each.startswith(accounts.SLOW_PROOF) and each not in fast for each in rows)


def test_proofs_of_earlier_versions_are_forgotten(database: Database, clock: Clock) -> None:
    fast = hashlib.sha256(b"session" + hashlib.sha256(ANNS_KEY.encode()).digest()).hexdigest()
    accounts.open_session(database, "A" * 43, "ann", fast, clock.now + LASTS_S)
    token = asyncio.run(sessions_of(database, clock).open("bob"))
    accounts.forget_fast_proofs(database)
    assert accounts.session(database, "A" * 43, clock.now) is None
    assert accounts.session(database, token, clock.now) is not None


def test_logging_in_forgets_what_is_over(database: Database, clock: Clock) -> None:
    asyncio.run(sessions_of(database, clock).open("ann"))
    clock.now += LASTS_S + 1
    asyncio.run(sessions_of(database, clock).open("ann"))
    with database.read() as connection:
        assert len(connection.execute(select(sessions)).all()) == 1


# --- what is open when they end ---------------------------------------------------------------------------


def test_what_waits_hears_of_the_end_of_its_session(clock: Clock) -> None:
    async def nothing() -> Any:
        await asyncio.Event().wait()

    async def run() -> None:
        session = LoginSession("ann", clock.now + 1000)
        waiting = asyncio.create_task(while_open(nothing, session, clock)())  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        assert not waiting.done()
        session.over.set()
        assert (await waiting)["type"] == "http.disconnect"
        brief = LoginSession("ann", clock.now + 0.01)
        assert (await while_open(nothing, brief, clock)())["type"] == "http.disconnect"  # type: ignore[arg-type]
        assert brief.over.is_set()

    asyncio.run(run())


@pytest.fixture(scope="module")
def two(pretending: Start, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """For Ann and Bob, with nothing of anybody else in it."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEYS)
    return pretending(keys=str(keys))


@contextmanager
def logged_in(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=60) as client:
        assert client.post("/api/v1/login", json={"key": ANNS_KEY}).json() == {"user": "ann"}
        yield client


def test_streams_end_with_the_session_that_opened_them(two: Served) -> None:
    with logged_in(two) as first, logged_in(two) as second:
        with first.stream("GET", "/api/v1/events") as mine, second.stream("GET", "/api/v1/events") as other:
            lines, others = mine.iter_lines(), other.iter_lines()
            assert next(lines) == next(others) == ": here"
            assert first.post("/api/v1/logout").status_code == 200
            assert [line for line in lines if line] == []  # to its end, which is an orderly one
            two.http.post("/api/v1/jobs", json={"prompt": "a fox"}, headers=ANN)
            assert any(line.startswith("event: ") for line in others)
        assert first.get("/api/v1/events").status_code == 401
    log = two.log.read_text()
    assert "Traceback" not in log and "without completing" not in log, log


def test_a_client_that_waits_for_a_picture_is_let_go_too(two: Served) -> None:
    with logged_in(two) as browser:
        body = {"prompt": "0.2 slow", "steps": 100, "stream": True, "partial_images": 1}
        ended = threading.Event()

        def wait() -> None:
            with browser.stream("POST", "/v1/images/generations", json=body) as reply:
                reply.read()
            ended.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        queue: dict[str, int] = {}
        while not queue.get("own_running"):
            queue = two.http.get("/api/v1/status", headers=ANN).json()["queue"]
        with httpx.Client(base_url=two.url, cookies=browser.cookies) as copy:
            copy.post("/api/v1/logout")
        waiting.join(30)
        assert ended.is_set()
        while queue["own_running"]:
            queue = two.http.get("/api/v1/status", headers=ANN).json()["queue"]


# --- streams ----------------------------------------------------------------------------------------------


def live_jobs() -> LiveJobs:
    return LiveJobs(lambda: 0.0, {})


def test_one_user_cannot_take_all_streams() -> None:
    service: Any = SimpleNamespace(live_jobs=live_jobs())
    for _ in range(native.MOST_STREAMS):
        native.stream(service, "ann", None)
    with pytest.raises(ErrorReply) as refused:
        native.stream(service, "ann", None)
    assert refused.value.status == 429
    assert isinstance(native.stream(service, "bob", None), EventStream)


async def begun_by_one_who_is_gone(stream: Any) -> None:
    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    await stream({"type": "http"}, gone, send)


def test_a_reader_that_goes_before_the_first_event_leaves_nothing_behind() -> None:
    service: Any = SimpleNamespace(live_jobs=live_jobs())
    stream = native.stream(service, "ann", None)
    assert len(service.live_jobs.watchers) == 1
    asyncio.run(begun_by_one_who_is_gone(stream))
    assert service.live_jobs.watchers == set()


def test_so_does_one_of_another_dialect_and_its_job_is_cancelled() -> None:
    cancelled: list[str] = []
    job = Job(id="1", owner="ann", lane=1, state="queued", kind="txt2img", model="starter", label="",
              order="", cost=1.0, created=0.0)  # fmt: skip
    service: Any = SimpleNamespace(
        live_jobs=live_jobs(), stopping=False, cancel=lambda owner, job: job, later=cancelled.append
    )
    live = service.live_jobs.add(job)
    watcher = service.live_jobs.watch("ann", "1")

    async def nothing() -> Any:
        yield ""

    asyncio.run(
        begun_by_one_who_is_gone(EventStream(nothing(), lambda: openai._disconnected(service, live, watcher)))
    )
    assert service.live_jobs.watchers == set() and cancelled == ["1"]


def test_one_user_cannot_keep_all_requests_of_the_server() -> None:
    async def run() -> list[int]:
        full = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await full.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async def no_session(token: str) -> None:
            return None

        rules = AccessRules(keys=USERS, names=("127.0.0.1",), numbers=False, bodies=BodyLimits(1000))
        guard = GuardMiddleware(
            app, rules, (("", native.answer),), no_session, TokenBuckets(Rate(1000, 10_000), lambda: 0.0),
            lambda key, client: USERS.owner(key), lambda count: "0", lambda: 0.0)  # fmt: skip
        transport = httpx.ASGITransport(guard)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            anns = [
                asyncio.create_task(http.get("/api/v1/jobs", headers=ANN)) for _ in range(MAX_CONCURRENT + 5)
            ]
            bobs = asyncio.create_task(http.get("/api/v1/jobs", headers=BOB))
            await asyncio.sleep(0.5)
            full.set()
            statuses = [reply.status_code for reply in await asyncio.gather(*anns)]
            after = await http.get("/api/v1/jobs", headers=ANN)
            return [statuses.count(200), statuses.count(429), (await bobs).status_code, after.status_code]

    assert asyncio.run(run()) == [MAX_CONCURRENT, 5, 200, 200]


# --- what is told of others -------------------------------------------------------------------------------


def test_nobody_hears_which_model_others_draw_with(two: Served) -> None:
    job = two.http.post("/api/v1/jobs", json={"prompt": "0.1 slow", "steps": 100}, headers=ANN).json()["id"]

    def models(user: dict[str, str]) -> list[str]:
        return [each["model"] for each in two.http.get("/api/v1/status", headers=user).json()["workers"]]

    while two.http.get(f"/api/v1/jobs/{job}", headers=ANN).json()["state"] == "queued":
        pass
    assert models(ANN) == ["starter"] and models(BOB) == [""]
    two.http.post(f"/api/v1/jobs/{job}/cancel", headers=ANN)


def test_who_is_alone_sees_it(quick: Served) -> None:
    quick.until(quick.submit(prompt="a fox")["id"])
    assert [each["model"] for each in quick.http.get("/api/v1/status").json()["workers"]] == ["starter"]
