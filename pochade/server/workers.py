"""Relays worker events, recovers the jobs of dead workers, and enforces the disk budget."""

import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from pochade.jobs import history, storage_usage, store
from pochade.jobs.database import Database, StoreBusy, StoreFailed
from pochade.jobs.live import LiveJobs
from pochade.jobs.log import log
from pochade.jobs.orders import PULL
from pochade.jobs.records import FAILED, FINISHED, QUEUED, RUNNING, Picture
from pochade.jobs.reserve import keep_reserve, release_reserve
from pochade.jobs.storage import Storage, discard, drop_inputs, is_dead, sweep
from pochade.jobs.supervisor import Supervisor, WorkerSlot
from pochade.jobs.worker import WorkerSettings
from pochade.server.config import Options

T = TypeVar("T")

TIDY_S = 2.0
"""Interval between calls of `tidy`, s."""
COMPARE_EVERY = 15
"""Every how many calls `tidy` compares the live jobs with the store; it also does after a worker's death."""

IDLE_S = 120.0
"""How long an idle worker may be silent, s; it sends something every few seconds."""
PREDICTED = 20.0
"""A running job may show no progress for this many times its predicted duration, if that is longer."""


class Workers:
    """The workers of a server. clock: seconds since 1970. random: as `secrets.token_hex`.

    later: runs a coroutine as a background task. refresh: scans the folders of models; called when a download
    is complete. native_sizes: native width and height, px, of each model that has been loaded. stored_bytes:
    size of all pictures.
    """

    def __init__(
        self,
        options: Options,
        storage: Storage,
        database: Database,
        live_jobs: LiveJobs,
        *,
        clock: Callable[[], float],
        random: Callable[[int], str],
        later: Callable[[Coroutine[Any, Any, None]], None],
        refresh: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._options, self._storage, self._database, self._live_jobs = options, storage, database, live_jobs
        self._clock, self._random, self._later, self._refresh = clock, random, later, refresh
        self._tidied, self._patient_until = clock(), 0.0
        self.native_sizes: dict[str, tuple[int, int]] = {}
        held = storage_usage.stored(database)
        self.stored_bytes = held.bytes
        if held.pinned > storage_usage.pin_budget(options.budget_bytes, 1):
            log(
                f"pinned pictures take {held.pinned:,} bytes, and the budget is"
                f" {options.budget_bytes:,}; unpinned ones may take"
                f" {1 - storage_usage.PINNED_SHARE:.0%} of that in addition"
            )
        slots = [slot_of(options, storage, device) for device in options.devices]
        slots.append(fetch_slot(options, storage))
        self.supervisor = Supervisor(
            slots, self._on_event, self._on_death, self._name, self._silence_limit_s, options.command
        )
        self._until_compared = COMPARE_EVERY

    async def remove(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run `function(database, *arguments)`, which deletes rows, in a thread.

        On a full disk the reserve is released for it; it is created again when there is space.
        """
        try:
            return await self._ask(function, *arguments)
        except StoreFailed as error:
            if isinstance(error, StoreBusy) or not await run_in_threadpool(release_reserve, self._storage):
                raise
            return await self._ask(function, *arguments)

    async def remove_pictures(self, pictures: Sequence[Picture]) -> None:
        """Remove pictures' files, after their rows."""
        await run_in_threadpool(discard, self._storage, [picture.path for picture in pictures])
        await self._count_stored()
        for owner in {picture.owner for picture in pictures}:
            gone = [picture.id for picture in pictures if picture.owner == owner]
            self._live_jobs.send(owner, "", "", "removed", pictures=gone)

    async def tidy(self) -> None:
        """Take back jobs of silent workers and free disk space. To be called every TIDY_S."""
        now, before, self._tidied = self._clock(), self._tidied, self._clock()
        if now - before > 5 * TIDY_S:
            # This process was suspended too (the computer slept), so the workers get time to report.
            self._patient_until = now + store.LEASE_S
        if now >= self._patient_until:
            await self._take_back(now)
        self._until_compared -= 1
        if self._until_compared <= 0:
            await self._compare()
        while gone := await self.remove(history.make_room, self._options.budget_bytes):
            await self.remove_pictures(gone)
        await run_in_threadpool(keep_reserve, self._storage)

    async def _take_back(self, now: float) -> None:
        """Take back the jobs of workers that are dead or silent according to the store."""
        slots = self.supervisor.slots
        names = {slot.name for slot in slots}
        alive = {slot.name for slot in slots if slot.job and slot.silent_s < store.LEASE_S}
        strange = {live.id for live in self._live_jobs.live.values() if live.state == RUNNING}
        strange -= {slot.job for slot in slots}
        held = await self._ask(store.running)
        if strange or any(worker not in names or until < now for worker, until in held):
            back = await self._ask(
                store.reclaim,
                now,
                lambda name: name not in names and worker_is_dead(self._storage, name),
                alive,
            )
            await self._settle(strange | {each.job for each in back})

    async def _compare(self) -> None:
        """Find jobs that ended in the store but are still live here, whose watchers missed the event."""
        accepted = [live.id for live in self._live_jobs.live.values() if live.accepted]
        active = await self._ask(history.active_ids)
        await self._settle(set(accepted) - active)
        self._until_compared = COMPARE_EVERY

    # --- worker events ----------------------------------------------------------------------------------

    def _on_event(self, slot: WorkerSlot, event: Mapping[str, Any]) -> None:
        kind, job = event["event"], event.get("job")
        live = None if job is None else self._live_jobs.live.get(job)
        if kind == "ready":
            slot.state = "idle"
        elif kind == "started":
            slot.state, slot.job = "drawing", job
            self._live_jobs.started(str(job), event["model"], event["attempt"])
        elif kind == "loading":
            slot.state = "loading"
            if live is not None:
                self._live_jobs.publish(live, "loading", model=event["model"])
        elif kind == "loaded":
            slot.state, slot.model = "drawing" if job else "idle", event["model"]
            self.native_sizes[event["model"]] = event["width"], event["height"]
        elif kind == "progress" and live is not None:
            slot.state, slot.job = "drawing", job
            live.step, live.steps = event["step"], event["steps"]
            live.number, live.pictures = event["picture"], event["pictures"]
            self._live_jobs.publish(live, "progress", **self._live_jobs.progress(live))
        elif kind == "fetched" and live is not None:
            slot.state, slot.job = "fetching", job
            live.fetched, live.to_fetch = event["bytes"], event["total"]
            self._live_jobs.publish(live, "progress", **self._live_jobs.progress(live))
        elif kind == "preview" and live is not None:
            live.previews = event["images"]
            self._live_jobs.publish(live, "preview", picture=event["picture"], images=event["images"])
        elif kind == "partial" and live is not None:
            self._live_jobs.publish(
                live, "partial", index=event["index"], picture=event["picture"], images=event["images"]
            )
        elif kind == "lost":
            slot.state, slot.job = "idle", None
            self._later(self._settle({str(job)}))
        elif kind in ("finished", "cancelled", "failed"):
            slot.state, slot.job = "idle", None
            if live is not None:
                live.invalid, live.no_room = bool(event.get("invalid")), bool(event.get("no_room"))
            self._later(self._over(str(job)))

    async def _on_death(self, slot: WorkerSlot) -> None:
        """Handle a worker's death: its job is queued again or failed, unless it had ended and the event was
        lost."""
        dead, self._until_compared = slot.name, 0
        back = await self._ask(store.reclaim, self._clock(), lambda name: name == dead)
        with suppress(OSError):
            self._storage.worker(dead).unlink(missing_ok=True)
        await self._settle({each.job for each in back} | ({slot.job} if slot.job else set()))

    async def _settle(self, doubtful: set[str]) -> None:
        """Synchronise these live jobs with the store."""
        for job in doubtful:
            found = await self._ask(history.find_job, job)
            if found is None or found.over:
                await self._over(job)
            elif found.state == QUEUED:
                self._live_jobs.requeued(job)
        self.wake()

    def wake(self) -> None:
        """Wake the workers."""
        waiting = (live for live in self._live_jobs.live.values() if live.pulls and live.state == QUEUED)
        self.supervisor.wake(pulls=any(waiting))

    async def _over(self, job: str) -> None:
        found = await self._ask(history.find_job, job)
        if found is None:
            self._live_jobs.gone(job, "cancelled")
            return
        if not found.over:
            return
        pictures = (await self._ask(history.pictures_of, [job]))[job]
        await self._count_stored()
        if found.kind == PULL and found.state == FINISHED and self._refresh is not None:
            await self._refresh()  # before clients are notified of the new model
        if found.state == FINISHED:
            seconds = round((found.ended or 0.0) - (found.started or 0.0), 3)
            self._live_jobs.gone(job, "finished", pictures=pictures, seconds=seconds)
        elif found.state == FAILED:
            self._live_jobs.gone(job, "failed", error=found.error)
        else:
            self._live_jobs.gone(job, "cancelled")
        await run_in_threadpool(drop_inputs, self._storage, job)

    async def _count_stored(self) -> None:
        self.stored_bytes = (await self._ask(storage_usage.stored)).bytes

    async def _ask(self, function: Callable[..., T], *arguments: Any) -> T:
        return await run_in_threadpool(function, self._database, *arguments)

    def _silence_limit_s(self, slot: WorkerSlot) -> float:
        """Return how long this worker may be silent before it counts as hanging, s."""
        if not self._options.stall_s:
            return math.inf
        if slot.state == "idle":
            return min(IDLE_S, self._options.stall_s)
        live = self._live_jobs.live.get(slot.job or "")
        return max(self._options.stall_s, 0.0 if live is None else PREDICTED * live.cost)

    def _name(self) -> str:
        return f"worker-{self._random(6)}"


def recover_jobs(database: Database, storage: Storage, now: float) -> None:
    """Take back the jobs of dead workers and remove stray files, before the first worker starts."""
    store.reclaim(database, now, lambda name: worker_is_dead(storage, name))
    active = {job.id for job in history.active_jobs(database)}
    storage_usage.recount(database)
    known = history.known_paths(database)
    sweep(storage, known.__contains__, active.__contains__)
    for file in (storage.root / "workers").glob("*"):
        if is_dead(file):
            with suppress(OSError):
                file.unlink(missing_ok=True)


def worker_is_dead(storage: Storage, name: str) -> bool:
    path = storage.worker(name)
    return not path.exists() or is_dead(path)


def fetch_slot(options: Options, storage: Storage) -> WorkerSlot:
    """Return the slot of the download process."""
    settings = WorkerSettings(
        name="", storage=storage, folders=options.folders, options={}, prepare=False, pulls=True
    )
    return WorkerSlot(settings, "network")


def slot_of(options: Options, storage: Storage, device: str) -> WorkerSlot:
    """Return the slot of a worker on a device."""
    given = {
        "device": device,
        "precision": options.precision,
        "engine": options.engine,
        "memory_budget": options.memory_budget,
        "threads": "" if options.threads is None else str(options.threads),
        "graph_budget": options.graph_budget,
        "fold_adapters": "yes" if options.fold_adapters else "no",
        "pixels": str(options.limits.pixels),
        "side": str(options.limits.side),
        "marks": "yes" if options.marks else "no",
        "sign": "" if options.sign is None else str(options.sign),
    }
    return WorkerSlot(
        WorkerSettings(name="", storage=storage, folders=options.folders, options=given), device
    )
