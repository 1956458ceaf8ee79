"""Supervision: lost events, hanging workers, and waiting clients."""

import asyncio
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pochade.jobs import history, store
from pochade.jobs.database import StoreBusy, StoreFailed
from pochade.jobs.live import LiveJob, LiveJobs
from pochade.jobs.records import FINISHED, QUEUED, RUNNING
from pochade.jobs.reserve import RESERVE_BYTES, ROOM, keep_reserve, release_reserve
from pochade.jobs.supervisor import WorkerSlot
from pochade.server.config import Options
from pochade.server.workers import COMPARE_EVERY, IDLE_S, Workers
from tests.jobs.conftest import Studio, studio

__all__ = ["studio"]


class Watched:
    """A workers whose worker was never started, with the live jobs and the store."""

    def __init__(self, studio: Studio, **options: Any) -> None:
        self.studio = studio
        self.live_jobs = LiveJobs(lambda: studio.now, {})
        self.later: list[Any] = []
        self.workers = Workers(
            Options(data=studio.storage.root, **options),
            studio.storage,
            studio.database,
            self.live_jobs,
            clock=lambda: studio.now,
            random=lambda n: "ab" * n,
            later=self.later.append,
        )
        self.slot = self.workers.supervisor.slots[0]
        self.slot.name, self.slot.state = "worker-1", "idle"

    def add(self) -> LiveJob:
        found = history.find_job(self.studio.database, self.studio.submit())
        assert found is not None
        return self.live_jobs.add(found)

    def tidy(self, times: int = 1) -> None:
        async def go() -> None:
            for _ in range(times):
                self.studio.now += 2
                await self.workers.tidy()

        asyncio.run(go())

    def state(self, job: str) -> str:
        found = history.find_job(self.studio.database, job)
        assert found is not None
        return found.state


@pytest.fixture
def watched(studio: Studio) -> Iterator[Watched]:
    yield Watched(studio)


def test_a_job_that_a_worker_took_and_never_told_of_is_taken_back(watched: Watched) -> None:
    live = watched.add()
    watched.studio.taken("worker-0")  # which is dead: no file of that name is locked
    assert live.state == QUEUED and watched.state(live.id) == RUNNING
    watched.tidy()
    assert watched.state(live.id) == QUEUED


def test_a_job_of_a_worker_that_is_at_work_is_not_even_if_its_lease_could_not_be_extended(
    watched: Watched,
) -> None:
    live = watched.add()
    watched.studio.taken("worker-1")
    watched.slot.job, watched.slot.state = live.id, "drawing"
    watched.tidy(round(store.LEASE_S))
    assert watched.state(live.id) == RUNNING
    watched.slot.silent_s = store.LEASE_S + 1
    watched.tidy()
    assert watched.state(live.id) == QUEUED


def test_a_job_that_a_worker_has_and_does_not_know_of_is_taken_back_when_its_lease_is_over(
    watched: Watched,
) -> None:
    """As when the disk failed while it took the job: it idles, and tells so."""
    live = watched.add()
    watched.studio.taken("worker-1")
    watched.tidy()
    assert watched.state(live.id) == RUNNING
    watched.tidy(round(store.LEASE_S))
    assert watched.state(live.id) == QUEUED


def test_whoever_waits_for_a_job_whose_end_was_never_told_hears_of_it(watched: Watched) -> None:
    live = watched.add()
    lease = watched.studio.taken("worker-1")
    store.finish(watched.studio.database, lease, watched.studio.drawn(lease), watched.studio.now)
    assert live.state == QUEUED and not live.over.is_set()
    watched.tidy(COMPARE_EVERY)
    assert live.over.is_set() and watched.live_jobs.live == {}
    assert watched.workers.stored_bytes == 100


def test_a_job_that_is_being_accepted_stays_on_the_board(watched: Watched) -> None:
    live = watched.add()
    other = replace(history.active_jobs(watched.studio.database)[0], id="20251124-coming")
    coming = watched.live_jobs.add(other, accepted=False)
    watched.tidy(2 * COMPARE_EVERY)
    assert set(watched.live_jobs.live) == {live.id, coming.id}


def test_a_death_that_the_store_could_not_be_told_of_is_made_good_later(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = watched.add()
    watched.studio.taken("worker-1")
    watched.workers._on_event(watched.slot, {"event": "started", "job": live.id, "model": "", "attempt": 1})
    full = StoreFailed(Path("jobs"), "could not be written", "the disk is full")

    def refuse(*_: Any) -> None:
        raise full

    with monkeypatch.context() as patched, pytest.raises(StoreFailed):
        patched.setattr(store, "reclaim", refuse)
        asyncio.run(watched.workers._on_death(watched.slot))
    watched.slot.name, watched.slot.job, watched.slot.state = "worker-2", None, "idle"
    watched.tidy()
    assert watched.state(live.id) == QUEUED and live.state == QUEUED


@pytest.mark.parametrize("lost", [True, False], ids=["its end was not told", "its end was told twice"])
def test_what_is_stored_is_counted_once(watched: Watched, lost: bool) -> None:
    live = watched.add()
    lease = watched.studio.taken("worker-1")
    watched.workers._on_event(watched.slot, {"event": "started", "job": live.id, "model": "", "attempt": 1})
    store.finish(watched.studio.database, lease, watched.studio.drawn(lease), watched.studio.now)
    for _ in range(0 if lost else 2):
        watched.workers._on_event(watched.slot, {"event": FINISHED, "job": live.id})

    async def go() -> None:
        await asyncio.gather(*watched.later)

    asyncio.run(go())
    watched.slot.job = None
    watched.tidy(COMPARE_EVERY)
    assert watched.workers.stored_bytes == 100 and watched.live_jobs.live == {}


def test_a_worker_may_be_silent_for_as_long_as_what_it_does_can_take(studio: Studio) -> None:
    watched = Watched(studio, stall_s=600.0)

    def patience(state: str, job: str | None = None) -> float:
        slot: WorkerSlot = watched.slot
        slot.state, slot.job = state, job
        return watched.workers._silence_limit_s(slot)

    assert patience("idle") == IDLE_S
    assert patience("starting") == patience("loading") == 600
    live = watched.add()
    assert patience("drawing", live.id) == 600
    live.cost = 1000.0
    assert patience("drawing", live.id) == 20_000
    assert patience("drawing", "gone") == 600
    never = Watched(studio, stall_s=0.0)
    assert never.workers._silence_limit_s(never.slot) == math.inf


def test_progress_tells_who_draws_if_the_beginning_was_not_heard(watched: Watched) -> None:
    live = watched.add()
    told = {"event": "progress", "job": live.id, "step": 1, "steps": 4, "picture": 0, "pictures": 1}
    watched.workers._on_event(watched.slot, told)
    assert (watched.slot.state, watched.slot.job) == ("drawing", live.id)


@pytest.mark.parametrize("what", ["full", "full of other things", "busy"])
def test_where_the_disk_is_full_a_reserve_is_given_up_to_remove_something(
    watched: Watched, what: str
) -> None:
    storage, tries = watched.studio.storage, []
    keep_reserve(storage)
    reserve = storage.root / "reserve"
    assert reserve.stat().st_size == RESERVE_BYTES

    def remove(_: object, job: str) -> str:
        tries.append(reserve.exists())
        if what == "busy":
            raise StoreBusy(Path("jobs"), "could not be written", "try again")
        if what == "full of other things" or reserve.exists():
            raise StoreFailed(Path("jobs"), "could not be written", "the disk is full")
        return job

    if what == "full":
        assert asyncio.run(watched.workers.remove(remove, "a")) == "a"
    else:
        with pytest.raises(StoreFailed):
            asyncio.run(watched.workers.remove(remove, "a"))
    assert tries == ([True] if what == "busy" else [True, False])
    watched.tidy()
    assert reserve.exists(), "it is set aside again"


def test_no_reserve_is_set_aside_where_there_is_little_room(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = watched.studio.storage
    usage = shutil.disk_usage(storage.root)._replace(free=ROOM * RESERVE_BYTES - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    keep_reserve(storage)
    assert not (storage.root / "reserve").exists() and not release_reserve(storage)
