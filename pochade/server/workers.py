"""The workers, what they tell, and what they leave behind: dead ones' jobs, and room on the disk."""

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
from pochade.jobs.reserve import give_up_reserve, keep_reserve
from pochade.jobs.storage import Storage, discard, drop_inputs, is_dead, sweep
from pochade.jobs.supervisor import Supervisor, WorkerSlot
from pochade.jobs.worker import WorkerSettings
from pochade.server.config import Options

T = TypeVar("T")

TIDY_S = 2.0
"""Between two calls of `tidy`."""
COMPARE_EVERY = 15
"""Of so many calls of `tidy` one compares all live jobs with the store; the call after a death does too."""

IDLE_S = 120.0
"""For so long a worker may be silent that has nothing to do: it speaks every few seconds."""
PREDICTED = 20.0
"""For so many times its predicted time a job may go on without a sign of progress, if that is longer."""


class Workers:
    """clock: seconds since 1970. random: as `secrets.token_hex`. later: runs a coroutine by itself.
    refresh: looks through the folders of models again; called when a model has come.

    usual: width and height, px, that each model draws if none are given; of those that have been loaded.
    stored_bytes: of all pictures.
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
        self.usual: dict[str, tuple[int, int]] = {}
        held = storage_usage.stored(database)
        self.stored_bytes = held.bytes
        if held.pinned > storage_usage.pin_budget(options.budget_bytes, 1):
            log(
                f"pinned pictures take {held.pinned:,} bytes, and the budget is"
                f" {options.budget_bytes:,}: others may take"
                f" {1 - storage_usage.PINNED_SHARE:.0%} of that besides"
            )
        slots = [slot_of(options, storage, device) for device in options.devices]
        slots.append(hand_that_fetches(options, storage))
        self.supervisor = Supervisor(
            slots, self._heard, self._died, self._name, self._patience, options.command
        )
        self._until_compared = COMPARE_EVERY

    async def remove(self, function: Callable[..., T], *arguments: Any) -> T:
        """`function(database, *arguments)`, which removes rows, in a thread.

        Where the disk is full, the reserve is given up for it; it is set aside again when there is room.
        """
        try:
            return await self._ask(function, *arguments)
        except StoreFailed as error:
            if isinstance(error, StoreBusy) or not await run_in_threadpool(give_up_reserve, self._storage):
                raise
            return await self._ask(function, *arguments)

    async def remove_pictures(self, pictures: Sequence[Picture]) -> None:
        """The files, after the rows."""
        await run_in_threadpool(discard, self._storage, [picture.path for picture in pictures])
        await self._count_stored()
        for owner in {picture.owner for picture in pictures}:
            gone = [picture.id for picture in pictures if picture.owner == owner]
            self._live_jobs.tell(owner, "", "", "removed", pictures=gone)

    async def tidy(self) -> None:
        """Jobs whose workers fell silent; room on the disk. To be called every TIDY_S."""
        now, before, self._tidied = self._clock(), self._tidied, self._clock()
        if now - before > 5 * TIDY_S:
            # This process stood still too, as a computer does that sleeps: the workers may speak first.
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
        """The jobs of workers that are gone or silent, whatever was heard of them, or not heard, here."""
        slots = self.supervisor.slots
        names = {hand.name for hand in slots}
        alive = {hand.name for hand in slots if hand.job and hand.silent_s < store.LEASE_S}
        strange = {live.id for live in self._live_jobs.live.values() if live.state == RUNNING}
        strange -= {hand.job for hand in slots}
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
        """Jobs that are over in the store and not on the live jobs: whoever waits for them was never told."""
        accepted = [live.id for live in self._live_jobs.live.values() if live.accepted]
        active = await self._ask(history.active_ids)
        await self._settle(set(accepted) - active)
        self._until_compared = COMPARE_EVERY

    # --- what workers tell --------------------------------------------------------------------------------

    def _heard(self, hand: WorkerSlot, event: Mapping[str, Any]) -> None:
        kind, job = event["event"], event.get("job")
        live = None if job is None else self._live_jobs.live.get(job)
        if kind == "ready":
            hand.state = "idle"
        elif kind == "started":
            hand.state, hand.job = "drawing", job
            self._live_jobs.started(str(job), event["model"], event["attempt"])
        elif kind == "loading":
            hand.state = "loading"
            if live is not None:
                self._live_jobs.publish(live, "loading", model=event["model"])
        elif kind == "loaded":
            hand.state, hand.model = "drawing" if job else "idle", event["model"]
            self.usual[event["model"]] = event["width"], event["height"]
        elif kind == "progress" and live is not None:
            hand.state, hand.job = "drawing", job
            live.step, live.steps = event["step"], event["steps"]
            live.number, live.pictures = event["picture"], event["pictures"]
            self._live_jobs.publish(live, "progress", **self._live_jobs.progress(live))
        elif kind == "fetched" and live is not None:
            hand.state, hand.job = "fetching", job
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
            hand.state, hand.job = "idle", None
            self._later(self._settle({str(job)}))
        elif kind in ("finished", "cancelled", "failed"):
            hand.state, hand.job = "idle", None
            if live is not None:
                live.invalid, live.no_room = bool(event.get("invalid")), bool(event.get("no_room"))
            self._later(self._over(str(job)))

    async def _died(self, hand: WorkerSlot) -> None:
        """Its job waits again, or has failed; or it was over, and the word of it was lost."""
        dead, self._until_compared = hand.name, 0
        back = await self._ask(store.reclaim, self._clock(), lambda name: name == dead)
        with suppress(OSError):
            self._storage.worker(dead).unlink(missing_ok=True)
        await self._settle({each.job for each in back} | ({hand.job} if hand.job else set()))

    async def _settle(self, doubtful: set[str]) -> None:
        """Bring what the live jobs says of these jobs into line with the store."""
        for job in doubtful:
            found = await self._ask(history.find_job, job)
            if found is None or found.over:
                await self._over(job)
            elif found.state == QUEUED:
                self._live_jobs.waits_again(job)
        self.wake()

    def wake(self) -> None:
        """Let the workers look for jobs."""
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
            await self._refresh()  # whoever hears that the model is here finds it
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

    def _patience(self, hand: WorkerSlot) -> float:
        """How long this worker may be silent before it is taken to hang, s."""
        if not self._options.stall_s:
            return math.inf
        if hand.state == "idle":
            return min(IDLE_S, self._options.stall_s)
        live = self._live_jobs.live.get(hand.job or "")
        return max(self._options.stall_s, 0.0 if live is None else PREDICTED * live.cost)

    def _name(self) -> str:
        return f"worker-{self._random(6)}"


def take_up(database: Database, storage: Storage, now: float) -> None:
    """Before the first worker starts: give back the jobs of dead ones, and sweep away what nobody knows."""
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


def hand_that_fetches(options: Options, storage: Storage) -> WorkerSlot:
    """A place for the process that fetches models."""
    settings = WorkerSettings(
        name="", storage=storage, folders=options.folders, options={}, prepare=False, pulls=True
    )
    return WorkerSlot(settings, "network")


def slot_of(options: Options, storage: Storage, device: str) -> WorkerSlot:
    """A place for workers on a device."""
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
