"""The service behind all dialects: submits jobs and reports their results."""

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from pochade.errors import InvalidRequest
from pochade.jobs import accounts, history, orders, pulls, store
from pochade.jobs.catalogue import Catalogue, scan_folders
from pochade.jobs.database import Database
from pochade.jobs.idempotency import IdempotencyKey
from pochade.jobs.limits import QueueFull
from pochade.jobs.live import LiveJob, LiveJobs
from pochade.jobs.log import log
from pochade.jobs.pricing import likely_size
from pochade.jobs.records import LANES, QUEUED, RUNNING, Job, Picture
from pochade.jobs.reserve import keep_reserve
from pochade.jobs.storage import Storage, alive, drop_inputs, new_id
from pochade.server import submission
from pochade.server.config import Options
from pochade.server.key_attempts import KeyAttempts
from pochade.server.links import Links
from pochade.server.login import Sessions
from pochade.server.rate_limit import Rate, TokenBuckets
from pochade.server.submission import Conflict, Stopping, SubmittedOrder
from pochade.server.workers import TIDY_S, Workers, recover_jobs

T = TypeVar("T")

TELL_S = 0.5
WRONG_KEYS = Rate(per_s=0.1, burst=10)
MAX_DECODING = 2
"""Pictures decoded in parallel; each may take a hundred megabytes."""


class Service:
    """Use it between `open` and `close`, on one event loop. clock: seconds since 1970."""

    def __init__(
        self,
        options: Options,
        clock: Callable[[], float] = time.time,
        random: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        self.options, self.limits, self.clock, self._random = options, options.limits, clock, random
        self.storage = Storage(options.data)
        self._held = ExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._soon: set[asyncio.Task[object]] = set()
        self._decoding, self._looking = asyncio.Semaphore(MAX_DECODING), asyncio.Lock()
        self.keys = options.keys
        self.sessions = Sessions(options.keys, self.ask, clock)
        self.door = KeyAttempts(options.keys, TokenBuckets(WRONG_KEYS, time.monotonic))
        self.stopping = False
        self.links = Links(clock)
        self.database: Database
        self.catalogue: Catalogue
        self.live_jobs: LiveJobs
        self.workers: Workers

    async def open(self) -> None:
        """Recover unfinished jobs and start the workers. Raises PochadeError."""
        self.storage.make()
        self._held.enter_context(alive(self.storage.root / "lock"))
        self.database = Database(self.storage.database)
        keep_reserve(self.storage)
        accounts.forget_fast_proofs(self.database)
        self.catalogue = scan_folders(self.options.folders)
        recover_jobs(self.database, self.storage, self.clock())
        self.live_jobs = LiveJobs(self.clock, store.served_last(self.database), len(self.options.devices))
        for job in history.active_jobs(self.database):
            order = orders.read_order(job.order)
            live = self.live_jobs.add(job)
            live.pictures, live.dialect = order.pictures, order.dialect
        self.workers = Workers(
            self.options,
            self.storage,
            self.database,
            self.live_jobs,
            clock=self.clock,
            random=self._random,
            later=self.later,
            refresh=self.refresh,
        )
        self.workers.supervisor.start()
        self.workers.wake()
        self._tasks = [
            asyncio.create_task(self._repeat(TIDY_S, self.workers.tidy)),
            asyncio.create_task(self._repeat(TELL_S, self._publish_positions)),
        ]

    def leave(self) -> None:
        """Accept no more jobs, and release waiting clients."""
        self.stopping = True
        for watcher in list(self.live_jobs.watchers):
            watcher.close()
        for live in list(self.live_jobs.live.values()):
            live.over.set()

    async def close(self) -> None:
        """Stop. Running jobs are finished if that is quick; otherwise they run after the next start."""
        await self.workers.supervisor.stop(self.options.grace_s)
        for task in [*self._tasks, *self._soon]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._soon, return_exceptions=True)
        self.database.close()
        self._held.close()

    # --- submitting ---------------------------------------------------------------------------------------

    async def submit(
        self, owner: str, submitted: SubmittedOrder, once: IdempotencyKey | None = None
    ) -> LiveJob:
        """Check and store an order. Once this returns, the job will run, whatever happens.

        once: the request's idempotency key, if any. Raises InvalidRequest for an invalid order, QueueFull,
        Stopping, and RepeatedRequest if a job has that key.
        """
        self._check_queue(owner)
        catalogue = self.catalogue
        order = await run_in_threadpool(submission.settled, submitted, catalogue, self._random, self.limits)
        model = catalogue.model(order.model)
        native_size = self.workers.native_sizes.get(order.model, likely_size(model.family))
        check = self.decoding if submitted.inputs else run_in_threadpool
        size = await check(submission.check, order, submitted.inputs, catalogue, self.limits, native_size)
        now = self.clock()
        job = Job(
            id=new_id(now, self._random),
            owner=owner,
            lane=LANES[submitted.lane],
            state=QUEUED,
            kind=order.kind,
            model=order.model,
            label=submitted.label,
            order=order.text(),
            cost=0.0,
            created=now,
        )
        self._check_queue(owner)  # other jobs may have been submitted meanwhile
        # Add it to the live jobs first: a worker may take it before this function continues.
        live = self.live_jobs.add(job, accepted=False)
        live.pictures, live.dialect = order.pictures, order.dialect
        kept = (submission.keep, self.storage, job, order, submitted.inputs, size, model.bytes, once)
        return await self._shielded(self._keep(live, *kept))

    async def fetch(self, owner: str, model: str, licence: str, commit: str = "", label: str = "") -> LiveJob:
        """Store a job that downloads a known model. licence, commit: as `look_up` returned them.

        Raises InvalidRequest for an unknown name or a model that is present; Conflict if it is being
        downloaded; QueueFull, Stopping.
        """
        self._check_queue(owner)
        known = pulls.known(model)
        await run_in_threadpool(pulls.downloads_folder, self.options.folders)
        if known.name in await self.present_models():
            raise InvalidRequest(f"the model '{known.name}' is already present")
        if any(live.pulls and live.model == known.name for live in self.live_jobs.live.values()):
            raise Conflict(f"the model '{known.name}' is already being downloaded")
        now = self.clock()
        order = orders.Order(
            kind=orders.PULL,
            model=known.name,
            pull=orders.PullOrder(licence=licence, commit=commit),
            dialect="native",
        )
        job = Job(
            id=new_id(now, self._random),
            owner=owner,
            lane=LANES["batch"],
            state=QUEUED,
            kind=order.kind,
            model=order.model,
            label=label,
            order=order.text(),
            cost=0.0,
            created=now,
        )
        live = self.live_jobs.add(job, accepted=False)
        words = f"{known.name}\n{known.title}".lower()
        return await self._shielded(self._keep(live, store.accept, job, words))

    async def present_models(self) -> set[str]:
        """Return the short names of known models that are present in the folders."""
        return await run_in_threadpool(pulls.present, self.options.folders)

    async def _keep(self, live: LiveJob, keep: Callable[..., Job | None], *arguments: Any) -> LiveJob:
        """Store a live job. keep: writes the job, and returns it if its cost is known."""
        try:
            kept = await self.ask(keep, *arguments)
        except BaseException:
            self.live_jobs.forget(live.id)
            raise
        self.live_jobs.accept(live, 0.0 if kept is None else kept.cost)
        self.workers.wake()
        return live

    async def _shielded(self, work: Coroutine[Any, Any, T]) -> T:
        """Await a change of the store and the live jobs. It is completed even if the request is cancelled."""
        task = asyncio.create_task(work)
        self._soon.add(task)
        task.add_done_callback(self._soon.discard)
        return await asyncio.shield(task)

    def _check_queue(self, owner: str) -> None:
        if self.stopping:
            raise Stopping("the server is shutting down; try again in a moment")
        if len(self.live_jobs.live) >= self.limits.queue:
            raise QueueFull(f"the queue is full: {self.limits.queue} jobs are waiting; try again later")
        if len(self.live_jobs.of(owner)) >= self.limits.own_queue:
            raise QueueFull(f"{self.limits.own_queue} of your jobs are already waiting; try again later")

    async def decoding(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run `function(*arguments)` in a thread, for decoding pictures; few run at once."""
        async with self._decoding:
            return await run_in_threadpool(function, *arguments)

    def check_picture(self, content: bytes) -> None:
        """Check a picture's header before decoding. Raises InvalidRequest if it is not a picture, or too
        large."""
        submission.check_picture(content, self.limits)

    # --- results ----------------------------------------------------------------------------------------

    async def cancel(self, owner: str, job: str, how: str = "cancel") -> str | None:
        """Stop a job; return its previous state, None if there is no such job.

        how: "cancel", "keep" or "skip", see `runner`.
        """
        live = self.live_jobs.live.get(job)
        if how == "skip" or (how == "keep" and live is not None and live.state == RUNNING):
            if live is None or live.owner != owner:
                found = await self.ask(history.find_job, job, owner)
                return None if found is None else found.state
            if live.state == RUNNING:
                live.interrupted = True
                self.workers.supervisor.send(job, how)
            return live.state
        return await self._shielded(self._cancel(owner, job))

    async def _cancel(self, owner: str, job: str) -> str | None:
        state = await self.ask(store.cancel, job, owner, self.clock())
        if state == QUEUED:
            await run_in_threadpool(drop_inputs, self.storage, job)
            self.live_jobs.gone(job, "cancelled")
        elif state == RUNNING:
            live = self.live_jobs.live.get(job)
            if live is not None:
                live.interrupted = True
            self.workers.supervisor.send(job, "cancel")
        return state

    async def cancel_all(self, owner: str) -> int:
        """Cancel all unfinished jobs of a user; return their number."""
        return await self._shielded(self._cancel_all(owner))

    async def _cancel_all(self, owner: str) -> int:
        waiting = await self.ask(store.cancel_waiting, owner, self.clock())
        for job in waiting:
            self.live_jobs.gone(job, "cancelled")
        for job in waiting:
            await run_in_threadpool(drop_inputs, self.storage, job)
        running = [live.id for live in self.live_jobs.of(owner)]
        states = [await self.cancel(owner, job) for job in running]
        return len(waiting) + sum(state in (QUEUED, RUNNING) for state in states)

    async def wait(self, live: LiveJob) -> tuple[Job, list[Picture]]:
        """Wait until the job ends. Raises Stopping if the server stops first."""
        await live.over.wait()
        job = await self.ask(history.find_job, live.id)
        if job is None or not job.over:
            raise Stopping("the server is shutting down; the job will run after its next start")
        return job, (await self.ask(history.pictures_of, [job.id]))[job.id]

    async def ask(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run `function(database, *arguments)` in a thread."""
        return await run_in_threadpool(function, self.database, *arguments)

    async def remove_pictures(self, pictures: Sequence[Picture]) -> None:
        """Remove the files of pictures, after their rows."""
        await self.workers.remove_pictures(pictures)

    async def refresh(self) -> None:
        """Scan the folders again, one scan at a time; the workers do so too before their next jobs."""
        async with self._looking:
            self.catalogue = await run_in_threadpool(scan_folders, self.options.folders)
        self.workers.supervisor.send_to_all("rescan")

    # --- background tasks -------------------------------------------------------------------------------

    async def _publish_positions(self) -> None:
        self.live_jobs.publish_positions()

    async def _repeat(self, pause_s: float, work: Callable[[], Any]) -> None:
        while True:
            await asyncio.sleep(pause_s)
            try:
                await work()
            except Exception as error:  # retried the next time
                log(f"housekeeping: {type(error).__name__}: {error}")

    def later(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine as a background task."""
        task = asyncio.create_task(work)
        self._soon.add(task)
        task.add_done_callback(self._is_done)

    def _is_done(self, task: "asyncio.Task[object]") -> None:
        self._soon.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # `Workers.tidy` repairs the state.
            log(f"housekeeping: {task.exception()}")
