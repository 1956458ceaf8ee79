"""Jobs that fetch models: a line of their own, a process of their own, and what may go wrong on the way."""

import asyncio
import collections
import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pochade.checkpoints.own_folder import read_record
from pochade.errors import InvalidRequest, OutputError
from pochade.hub import download
from pochade.hub.hub_api import HubError
from pochade.hub.known_models import known
from pochade.jobs import history, store, supervisor, worker
from pochade.jobs.catalogue import Folders
from pochade.jobs.live import LiveJobs
from pochade.jobs.orders import PULL, Order, PullOrder, read_order
from pochade.jobs.pulls import Fetcher, look_up, present
from pochade.jobs.records import FAILED, FINISHED, QUEUED, RUNNING
from pochade.jobs.runner import CANCEL, Fetched
from pochade.jobs.storage import Storage
from pochade.jobs.supervisor import Supervisor, WorkerSlot
from pochade.jobs.worker import Worker, WorkerSettings
from tests.fake_hub import COMMIT, FakeHub
from tests.hub.conftest import hub as fake_hub
from tests.jobs.conftest import Studio

__all__ = ["fake_hub"]
NAME = "lcm-dreamshaper"
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def hub(fake_hub: FakeHub) -> FakeHub:
    fake_hub.repo = known(NAME).repo
    return fake_hub


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.download_file, "__defaults__", (lambda seconds: None,))


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(roots=(tmp_path / "models",))


def order(licence: str = "openrail++", commit: str = "", model: str = NAME) -> Order:
    return Order(kind=PULL, model=model, pull=PullOrder(licence=licence, commit=commit))


def fetched(folders: Folders, which: Order, stop_at: int | None = None) -> list[Any]:
    """What a fetcher tells, until it is cancelled after so many words."""
    told: list[Any] = []
    asked = lambda: CANCEL if stop_at is not None and len(told) >= stop_at else None  # noqa: E731
    for event in Fetcher(folders).draw(which, lambda number: b"", asked):
        told.append(event)
    return told


def test_an_order_outlives_the_process() -> None:
    assert read_order(order(commit=COMMIT).text()) == order(commit=COMMIT)
    assert order().pictures == 1
    with pytest.raises(InvalidRequest, match="kind is 'pull'; one of: txt2img"):
        Order(kind=PULL, model=NAME)


def test_look_up_says_what_the_hub_has_and_fetches_nothing(hub: FakeHub, folders: Folders) -> None:
    offer = look_up(NAME, folders)
    assert (offer.name, offer.repo, offer.commit) == (NAME, hub.repo, COMMIT)
    assert (offer.licence, offer.files, offer.held) == ("openrail++", 11, 0)
    assert offer.bytes == look_up_bytes(hub)
    assert offer.free > 0 and hub.requests("store") == [] and not folders.roots[0].exists()


def test_a_model_is_fetched_and_found_by_its_name(hub: FakeHub, folders: Folders) -> None:
    assert present(folders) == set()
    told = fetched(folders, order())
    assert all(isinstance(event, Fetched) for event in told)
    assert [event.bytes for event in told] == sorted(event.bytes for event in told)
    assert told[-1].bytes == told[-1].total == look_up_bytes(hub)
    path = folders.roots[0] / "diffusers" / NAME
    assert read_record(path)["known"] == NAME and present(folders) == {NAME}
    asked = len(hub.log)
    assert fetched(folders, order()) == [] and len(hub.log) == asked  # it is here


def look_up_bytes(hub: FakeHub) -> int:
    from pochade.hub.pull import plan_known

    return plan_known(known(NAME), Path("/nowhere")).size


def test_another_licence_than_the_accepted_one_fetches_nothing(hub: FakeHub, folders: Folders) -> None:
    hub.card = {"license": "other", "license_name": "all-mine"}
    with pytest.raises(InvalidRequest, match=r"names the licence 'all-mine' .* 'openrail\+\+' was accepted"):
        fetched(folders, order())
    assert hub.requests("store") == [] and not folders.roots[0].exists()
    hub.card = {}
    fetched(folders, order(licence=""))  # none is named, and that was accepted
    assert present(folders) == {NAME}


def test_the_commit_that_was_shown_is_the_one_that_is_fetched(hub: FakeHub, folders: Folders) -> None:
    with pytest.raises(HubError, match="has no revision"):
        fetched(folders, order(commit="f" * 40))
    fetched(folders, order(commit=COMMIT))
    assert read_record(folders.roots[0] / "diffusers" / NAME)["commit"] == COMMIT


def test_cancelled_it_keeps_what_came_and_goes_on_later(hub: FakeHub, folders: Folders) -> None:
    hub.cuts = [3000]
    fetched(folders, order(), stop_at=4)
    assert present(folders) == set() and list(folders.roots[0].rglob("*.part"))
    before = look_up(NAME, folders).held
    assert before > 0
    told = fetched(folders, order())
    assert told[-1].bytes == told[-1].total and present(folders) == {NAME}


def test_a_broken_download_says_so_and_goes_on_later(hub: FakeHub, folders: Folders) -> None:
    hub.cuts = [3000, *[0] * 9]
    with pytest.raises(HubError, match=r"broke off at 3,000 of .* pull again to resume"):
        fetched(folders, order())
    hub.cuts = []
    fetched(folders, order())
    assert hub.requests("store", "text_encoder/model.safetensors")[-1].get("range") == "bytes=3000-"


def test_bytes_with_another_hash_are_removed(hub: FakeHub, folders: Folders) -> None:
    hub.damaged = {UNET}
    with pytest.raises(HubError, match="the download was damaged and has been removed; pull it again"):
        fetched(folders, order())
    assert present(folders) == set()


def test_a_full_disk(hub: FakeHub, folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = collections.namedtuple("usage", "total used free")(1, 1, 5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert look_up(NAME, folders).free == 5000
    with pytest.raises(OutputError, match=r"0\.0 GB free"):
        fetched(folders, order())
    assert hub.requests("store") == [] and not folders.roots[0].exists()


def test_a_server_whose_folders_are_all_others(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "sd.txt").write_text("theirs")
    with pytest.raises(InvalidRequest, match="has no folder for downloaded models"):
        look_up(NAME, Folders(roots=(tmp_path / "theirs",)))
    assert hub.log == []


# --- in the store and the worker --------------------------------------------------------------------------


def waiting(studio: Studio, **changes: Any) -> str:
    values = {"kind": PULL, "model": NAME, "order": order().text(), "cost": 0.0, **changes}
    return studio.submit(**values)


def test_models_and_drawings_wait_in_lines_of_their_own(studio: Studio) -> None:
    first, second = waiting(studio, owner="bob"), waiting(studio, owner="ann")
    drawing = studio.submit(owner="bob")
    other = studio.submit(owner="ann")

    def pull() -> str | None:
        lease = store.take(studio.database, "f", "t", studio.now, pulls=True)
        return None if lease is None else lease.job.id

    assert [pull(), pull(), pull()] == [first, second, None]  # the oldest first
    assert store.served_last(studio.database) == {}  # nobody's turn to draw is over by that
    assert [studio.taken().job.id, studio.taken().job.id] == [drawing, other]
    assert studio.take() is None


def test_a_process_that_dies_gives_its_model_back_and_says_so_at_last(studio: Studio) -> None:
    job = waiting(studio)
    for death in range(1, store.MAX_DEATHS + 1):
        assert store.take(studio.database, "f", f"t{death}", studio.now, pulls=True) is not None
        store.reclaim(studio.database, studio.now, lambda name: name == "f")
        found = history.find_job(studio.database, job)
        assert found is not None
        assert found.state == (QUEUED if death < store.MAX_DEATHS else FAILED)
    assert found.error is not None and "another pull resumes them" in found.error


def run_worker(studio: Studio, folders: Folders) -> list[dict[str, Any]]:
    output = io.BytesIO()
    settings = WorkerSettings(
        name="f", storage=studio.storage, folders=folders, options={}, prepare=False, pulls=True
    )
    tokens = iter(range(100))
    Worker(settings, Fetcher(folders), output, lambda: studio.now, lambda n: f"token-{next(tokens)}").run()
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_a_worker_fetches_what_waits_and_ends(
    studio: Studio, hub: FakeHub, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "IDLE_FETCHER_S", 0.0)
    monkeypatch.setattr(worker, "FETCHED_S", 0.0)
    drawing, good = studio.submit(), waiting(studio)
    bad = waiting(studio, order=order(model="taesd").text(), model="taesd")  # this hub has none
    told = run_worker(studio, folders)
    states = {job: history.find_job(studio.database, job) for job in (drawing, good, bad)}
    assert [found.state for found in states.values() if found] == [QUEUED, FINISHED, FAILED]
    total = look_up_bytes(hub)
    assert {"event": "fetched", "job": good, "bytes": total, "total": total} in told
    assert [each["event"] for each in told if each.get("job") == good][-1] == "finished"
    failed = next(each for each in told if each["event"] == "failed")
    assert failed["job"] == bad and not failed["no_room"]


def test_a_full_disk_is_told_as_one(
    studio: Studio, hub: FakeHub, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "IDLE_FETCHER_S", 0.0)
    usage = collections.namedtuple("usage", "total used free")(1, 1, 5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    job = waiting(studio)
    told = run_worker(studio, folders)
    assert next(each for each in told if each["event"] == "failed")["no_room"]
    found = history.find_job(studio.database, job)
    assert found is not None and found.error is not None and "on the server's disk: " in found.error
    assert str(folders.roots[0]) not in found.error  # no paths


def test_the_board_keeps_models_out_of_the_line_for_drawings(studio: Studio) -> None:
    live_jobs = LiveJobs(lambda: studio.now, {})
    ids = [waiting(studio, cost=1000.0), studio.submit(cost=5.0), waiting(studio)]
    for each in ids:
        found = history.find_job(studio.database, each)
        assert found is not None
        live_jobs.add(found)
    storage = [live_jobs.queue_position(each) for each in ids]
    assert [place.position for place in storage if place] == [1, 1, 2]
    assert live_jobs.seconds() == 5.0 and live_jobs.count(QUEUED) == 1
    live_jobs.started(ids[0], NAME, 1)
    live = live_jobs.live[ids[0]]
    live.fetched, live.to_fetch = 250, 1000
    told = live_jobs.progress(live)
    assert (told["step"], told["steps"], told["bytes"], told["total_bytes"]) == (25, 100, 250, 1000)
    assert live_jobs.count(RUNNING) == 0 and live_jobs._served == {}


PROCESS = """
import json, sys
name = json.loads(sys.stdin.readline())["name"]
sys.stdout.write(json.dumps({"event": "ready", "name": name}) + "\\n")
sys.stdout.flush()
if name == "w2":
    sys.exit(9)
"""


def test_the_process_that_fetches_is_started_when_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.01)

    async def go() -> None:
        settings = WorkerSettings(
            name="",
            storage=Storage(Path("/nowhere")),
            folders=Folders(),
            options={},
            prepare=False,
            pulls=True,
        )
        slot, heard, dead = WorkerSlot(settings, "network"), asyncio.Queue[str](), list[str]()

        async def died(slot: WorkerSlot) -> None:
            dead.append(slot.name)
            slot.wanted.set()  # as the workers does while a model waits

        names: Iterator[int] = iter(range(1, 9))
        watched = Supervisor(
            [slot],
            lambda slot, event: heard.put_nowait(str(event["name"])),
            died,
            lambda: f"w{next(names)}",
            lambda _: 1e9,
            (sys.executable, "-c", PROCESS),
        )
        watched.start()
        watched.wake()  # a drawing
        await asyncio.sleep(0.05)
        assert heard.empty() and slot.process is None
        watched.wake(pulls=True)
        assert await asyncio.wait_for(heard.get(), 30) == "w1"
        while slot.process is not None:  # it ends by itself, which is no death
            await asyncio.sleep(0.01)
        assert (dead, slot.restarts, slot.state) == ([], 0, "idle")
        watched.wake(pulls=True)
        assert await asyncio.wait_for(heard.get(), 30) == "w2"
        assert await asyncio.wait_for(heard.get(), 30) == "w3"
        assert (dead, slot.restarts) == (["w2"], 1)
        await asyncio.wait_for(watched.stop(0.1), 30)

    asyncio.run(go())


def test_a_sleeping_place_does_not_hold_up_the_end() -> None:
    async def go() -> None:
        settings = WorkerSettings(
            name="", storage=Storage(Path("/nowhere")), folders=Folders(), options={}, pulls=True
        )

        async def died(slot: WorkerSlot) -> None:
            raise AssertionError

        watched = Supervisor([WorkerSlot(settings, "network")], print, died, str, lambda _: 1.0)
        watched.start()
        await asyncio.sleep(0)
        task = watched._tasks[0]
        await watched.stop(0.0)
        assert task.done() and not task.cancelled()

    asyncio.run(go())
