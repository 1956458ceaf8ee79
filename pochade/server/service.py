"""Where every dialect slots in its orders and asks what became of them."""

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from pochade.errors import InvalidRequest
from pochade.jobs import accounts, history, orders, pulls, store
from pochade.jobs.catalogue import Catalogue, look
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
from pochade.server.rate_limit import Buckets, Rate
from pochade.server.submission import Conflict, Stopping, SubmittedOrder
from pochade.server.workers import TIDY_S, Workers, take_up

T = TypeVar("T")

TELL_S = 0.5
WRONG_KEYS = Rate(per_s=0.1, burst=10)
DECODINGS = 2
"""Pictures that are decoded at once: each may take a hundred megabytes."""


class Service:
    """Use it inside its `open` and `close`, on one event loop. clock: seconds since 1970."""

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
        self._decoding, self._looking = asyncio.Semaphore(DECODINGS), asyncio.Lock()
        self.keys = options.keys
        self.sessions = Sessions(options.keys, self.ask, clock)
        self.door = KeyAttempts(options.keys, Buckets(WRONG_KEYS, time.monotonic))
        self.stopping = False
        self.links = Links(clock)
        self.database: Database
        self.catalogue: Catalogue
        self.live_jobs: LiveJobs
        self.workers: Workers

    async def open(self) -> None:
        """Take up what was there, and start the workers. Raises PochadeError."""
        self.storage.make()
        self._held.enter_context(alive(self.storage.root / "lock"))
        self.database = Database(self.storage.database)
        keep_reserve(self.storage)
        accounts.forget_fast_proofs(self.database)
        self.catalogue = look(self.options.folders)
        take_up(self.database, self.storage, self.clock())
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
            asyncio.create_task(self._again(TIDY_S, self.workers.tidy)),
            asyncio.create_task(self._again(TELL_S, self._tell_places)),
        ]

    def leave(self) -> None:
        """Take no more, and let go those who wait."""
        self.stopping = True
        for watcher in list(self.live_jobs.watchers):
            watcher.close()
        for live in list(self.live_jobs.live.values()):
            live.over.set()

    async def close(self) -> None:
        """What is drawn is finished if that does not take long; else it waits for the next start."""
        await self.workers.supervisor.stop(self.options.grace_s)
        for task in [*self._tasks, *self._soon]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._soon, return_exceptions=True)
        self.database.close()
        self._held.close()

    # --- handing in ---------------------------------------------------------------------------------------

    async def submit(self, owner: str, asked: SubmittedOrder, once: IdempotencyKey | None = None) -> LiveJob:
        """Check an order and keep it. When this returns, it will be drawn, whatever happens.

        once: the key of the request, if it has one. Raises InvalidRequest for what cannot be drawn,
        QueueFull, Stopping, and Repeated if there is a job of that key.
        """
        self._check_room(owner)
        catalogue = self.catalogue
        order = await run_in_threadpool(submission.settled, asked, catalogue, self._random, self.limits)
        model = catalogue.model(order.model)
        usual = self.workers.usual.get(order.model, likely_size(model.family))
        check = self.decoding if asked.inputs else run_in_threadpool
        size = await check(submission.check, order, asked.inputs, catalogue, self.limits, usual)
        now = self.clock()
        job = Job(
            id=new_id(now, self._random),
            owner=owner,
            lane=LANES[asked.lane],
            state=QUEUED,
            kind=order.kind,
            model=order.model,
            label=asked.label,
            order=order.text(),
            cost=0.0,
            created=now,
        )
        self._check_room(owner)  # others may have come meanwhile
        # On the live jobs first: a worker may take it before this function goes on.
        live = self.live_jobs.add(job, accepted=False)
        live.pictures, live.dialect = order.pictures, order.dialect
        try:
            job = await self.ask(
                submission.keep, self.storage, job, order, asked.inputs, size, model.bytes, once
            )
        except BaseException:
            self.live_jobs.forget(job.id)
            raise
        return self._accepted(live, job.cost)

    async def fetch(self, owner: str, model: str, licence: str, commit: str = "", label: str = "") -> LiveJob:
        """Keep a job that fetches a known model. licence, commit: as `look_up` told them.

        Raises InvalidRequest for a name that is not known, or a model that is here; Conflict if it is being
        fetched; QueueFull, Stopping.
        """
        self._check_room(owner)
        known = pulls.known(model)
        await run_in_threadpool(pulls.place_for_models, self.options.folders)
        if known.name in await self.models_here():
            raise InvalidRequest(f"the model '{known.name}' is here already")
        if any(live.pulls and live.model == known.name for live in self.live_jobs.live.values()):
            raise Conflict(f"the model '{known.name}' is being fetched")
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
        try:
            await self.ask(store.accept, job, f"{known.name}\n{known.title}".lower())
        except BaseException:
            self.live_jobs.forget(job.id)
            raise
        return self._accepted(live, 0.0)

    async def models_here(self) -> set[str]:
        """The short names of known models that mean something in the folders of models."""
        return await run_in_threadpool(pulls.present, self.options.folders)

    def _accepted(self, live: LiveJob, cost: float) -> LiveJob:
        self.live_jobs.accept(live, cost)
        self.workers.wake()
        return live

    def _check_room(self, owner: str) -> None:
        if self.stopping:
            raise Stopping("the server is shutting down; try again in a moment")
        if len(self.live_jobs.live) >= self.limits.queue:
            raise QueueFull(f"the queue is full: {self.limits.queue} jobs are waiting; try again later")
        if len(self.live_jobs.of(owner)) >= self.limits.own_queue:
            raise QueueFull(f"{self.limits.own_queue} of your jobs are already waiting; try again later")

    async def decoding(self, function: Callable[..., T], *arguments: Any) -> T:
        """`function(*arguments)`, in a thread, where it may decode pictures: few of these at once."""
        async with self._decoding:
            return await run_in_threadpool(function, *arguments)

    def check_picture(self, content: bytes) -> None:
        """Raises InvalidRequest for what is no picture, or too large, before it is decoded."""
        submission.check_picture(content, self.limits)

    # --- what became of it --------------------------------------------------------------------------------

    async def cancel(self, owner: str, job: str, how: str = "cancel") -> str | None:
        """how: "cancel", "keep" or "skip", see `drawing`. The state it was in; None: there is no such job."""
        live = self.live_jobs.live.get(job)
        if how == "skip" or (how == "keep" and live is not None and live.state == RUNNING):
            if live is None or live.owner != owner:
                found = await self.ask(history.find_job, job, owner)
                return None if found is None else found.state
            if live.state == RUNNING:
                live.interrupted = True
                self.workers.supervisor.say(job, how)
            return live.state
        state = await self.ask(store.cancel, job, owner, self.clock())
        if state == QUEUED:
            await run_in_threadpool(drop_inputs, self.storage, job)
            self.live_jobs.gone(job, "cancelled")
        elif state == RUNNING:
            if live is not None:
                live.interrupted = True
            self.workers.supervisor.say(job, "cancel")
        return state

    async def cancel_all(self, owner: str) -> int:
        """Everything of theirs that is not over; how much that was."""
        waiting = await self.ask(store.cancel_waiting, owner, self.clock())
        for job in waiting:
            self.live_jobs.gone(job, "cancelled")
        for job in waiting:
            await run_in_threadpool(drop_inputs, self.storage, job)
        running = [live.id for live in self.live_jobs.of(owner)]
        states = [await self.cancel(owner, job) for job in running]
        return len(waiting) + sum(state in (QUEUED, RUNNING) for state in states)

    async def wait(self, live: LiveJob) -> tuple[Job, list[Picture]]:
        """Until the job is over. Raises Stopping if the server stops before."""
        await live.over.wait()
        job = await self.ask(history.find_job, live.id)
        if job is None or not job.over:
            raise Stopping("the server is shutting down; the job will run after its next start")
        return job, (await self.ask(history.pictures_of, [job.id]))[job.id]

    async def ask(self, function: Callable[..., T], *arguments: Any) -> T:
        """`function(database, *arguments)`, in a thread."""
        return await run_in_threadpool(function, self.database, *arguments)

    async def remove_pictures(self, pictures: Sequence[Picture]) -> None:
        """The files, after the rows."""
        await self.workers.remove_pictures(pictures)

    async def refresh(self) -> None:
        """Look through the folders again, one look at a time, however many ask; the workers do so too, before
        their next jobs."""
        async with self._looking:
            self.catalogue = await run_in_threadpool(look, self.options.folders)
        self.workers.supervisor.say_to_all("look")

    # --- what goes on by itself ---------------------------------------------------------------------------

    async def _tell_places(self) -> None:
        self.live_jobs.tell_places()

    async def _again(self, pause_s: float, work: Callable[[], Any]) -> None:
        while True:
            await asyncio.sleep(pause_s)
            try:
                await work()
            except Exception as error:  # the next time may be better, and the server goes on
                log(f"housekeeping: {type(error).__name__}: {error}")

    def later(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine by itself."""
        task = asyncio.create_task(work)
        self._soon.add(task)
        task.add_done_callback(self._is_done)

    def _is_done(self, task: "asyncio.Task[object]") -> None:
        self._soon.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # What it was to tell is found again by `Workers.tidy`.
            log(f"housekeeping: {task.exception()}")
