"""Where every dialect hands in its orders and asks what became of them."""

import asyncio
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from pochade.errors import InvalidRequest
from pochade.images.opening import opened, read_picture
from pochade.jobs import cost, history, limits, orders, store
from pochade.jobs.board import Board, Live
from pochade.jobs.catalogue import Catalogue, Folders, look
from pochade.jobs.database import Database
from pochade.jobs.limits import Limits, QueueFull
from pochade.jobs.orders import Order
from pochade.jobs.places import (
    Places,
    alive,
    discard,
    drop_inputs,
    is_dead,
    keep_input,
    new_id,
    sweep,
)
from pochade.jobs.pricing import USUAL, expected_work
from pochade.jobs.records import FAILED, FINISHED, LANES, QUEUED, RUNNING, Job, Picture
from pochade.jobs.supervisor import COMMAND, Hand, Supervisor
from pochade.jobs.worker import Settings
from pochade.request import open_ones
from pochade.server.door import Door
from pochade.server.keys import Keys
from pochade.server.rates import Buckets, Rate

T = TypeVar("T")

TIDY_S = 2.0
TELL_S = 0.5
WRONG_KEYS = Rate(per_s=0.1, burst=10)
DECODINGS = 2
"""Pictures that are decoded at once: each may take a hundred megabytes."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the server was started with. devices: one worker for each. budget_bytes: for all pictures.
    memory_budget: bytes for each worker, or "".

    marks: whether pictures say that a model made them. sign: the file of a key to sign them with.
    """

    data: Path
    folders: Folders = field(default_factory=Folders)
    devices: tuple[str, ...] = ("auto",)
    precision: str = "auto"
    engine: str = "auto"
    memory_budget: str = ""
    marks: bool = True
    sign: Path | None = None
    limits: Limits = field(default_factory=Limits)
    budget_bytes: int = 20 * 10**9
    grace_s: float = 10.0
    keys: Keys = field(default_factory=Keys)
    command: tuple[str, ...] = COMMAND


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An order with what else a client says. inputs: the content of picture files, by their numbers."""

    order: Order
    inputs: Sequence[bytes] = ()
    styles: Sequence[str] = ()
    lane: str = "interactive"
    label: str = ""


class Stopping(InvalidRequest):
    """The server is about to stop and takes no more."""


class Desk:
    """Use it inside its `open` and `close`, on one event loop. clock: seconds since 1970."""

    def __init__(
        self,
        options: Options,
        clock: Callable[[], float] = time.time,
        random: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        self.options, self.limits, self.clock, self._random = options, options.limits, clock, random
        self.places = Places(options.data)
        self._held = ExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._soon: set[asyncio.Task[None]] = set()
        self._decoding = asyncio.Semaphore(DECODINGS)
        self._usual: dict[str, tuple[int, int]] = {}
        self.keys = options.keys
        self.sessions: dict[str, tuple[str, str]] = {}
        self.door = Door(options.keys, Buckets(WRONG_KEYS, time.monotonic))
        self.stopping = False
        self.stored_bytes = 0
        self._tidied, self._patient_until = clock(), 0.0
        self.database: Database
        self.catalogue: Catalogue
        self.board: Board
        self.supervisor: Supervisor

    async def open(self) -> None:
        """Take up what was there, and start the workers. Raises PochadeError."""
        self.places.make()
        self._held.enter_context(alive(self.places.root / "lock"))
        self.database = Database(self.places.database)
        self.catalogue = look(self.options.folders)
        store.reclaim(self.database, self.clock(), self._is_dead)
        self._sweep()
        self.stored_bytes = history.stored_bytes(self.database)
        hands = [self._hand(device) for device in self.options.devices]
        self.board = Board(self.clock, store.served_last(self.database), len(hands))
        for job in history.active_jobs(self.database):
            self.board.add(job).pictures = orders.read_order(job.order).pictures
        self.supervisor = Supervisor(hands, self._heard, self._died, self._name, self.options.command)
        self.supervisor.start()
        self._tasks = [
            asyncio.create_task(self._again(TIDY_S, self._tidy)),
            asyncio.create_task(self._again(TELL_S, self._tell_places)),
        ]

    def leave(self) -> None:
        """Take no more, and let go those who wait."""
        self.stopping = True
        for watcher in list(self.board.watchers):
            watcher.close()
        for live in list(self.board.live.values()):
            live.over.set()

    async def close(self) -> None:
        """What is drawn is finished if that does not take long; else it waits for the next start."""
        await self.supervisor.stop(self.options.grace_s)
        for task in [*self._tasks, *self._soon]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._soon, return_exceptions=True)
        self.database.close()
        self._held.close()

    # --- handing in ---------------------------------------------------------------------------------------

    async def submit(self, owner: str, asked: Asked) -> Live:
        """Check an order and keep it. When this returns, it will be drawn, whatever happens.

        Raises InvalidRequest for what cannot be drawn, QueueFull, Stopping.
        """
        self._check_room(owner)
        order = self._settled(asked)
        limits.check(order, self.limits, self._usual.get(order.model, USUAL))
        async with self._decoding if asked.inputs else _free():
            await run_in_threadpool(self._check, order, asked.inputs)
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
        usual = self._usual.get(order.model, USUAL)
        bytes_ = self.catalogue.model(order.model).bytes
        # On the board first: a worker may take it before this function goes on.
        live = self.board.add(job)
        live.pictures = order.pictures
        try:
            job = await run_in_threadpool(self._keep, job, order, asked.inputs, usual, bytes_)
        except BaseException:
            self.board.forget(job.id)
            raise
        self.board.priced(live, job.cost)
        if live.state == QUEUED and job.id in self.board.live:
            self.board.publish(live, "queued", **self.board.told(live))
        self.supervisor.wake()
        return live

    def _check_room(self, owner: str) -> None:
        if self.stopping:
            raise Stopping("the server is about to stop; try again in a moment")
        if len(self.board.live) >= self.limits.queue:
            raise QueueFull(f"the queue is full: {self.limits.queue} jobs wait; try again later")
        if len(self.board.of(owner)) >= self.limits.own_queue:
            raise QueueFull(f"{self.limits.own_queue} jobs of yours wait already; try again later")

    def _settled(self, asked: Asked) -> Order:
        """With nothing left open: model, usual settings, styles, seed. Raises InvalidRequest for names."""
        order, request = asked.order, dict(asked.order.request)
        model = self.catalogue.model(order.model).name
        prompt, negative = self.catalogue.styled(
            request.get("prompt", ""), request.get("negative_prompt", ""), asked.styles
        )
        for text in (prompt, negative):
            self.catalogue.check_prompt(text)
        request |= {"prompt": prompt, "negative_prompt": negative}
        request |= open_ones(request, self.catalogue.usual(model, prompt, negative))
        if request.get("seed") is None:
            request["seed"] = int(self._random(4), 16)
        return replace(order, model=model, request=request)

    def _check(self, order: Order, inputs: Sequence[bytes]) -> None:
        """Everything that the worker would complain of, as far as it can be known here."""
        from pochade.diffusion.samplers import find_sampler
        from pochade.diffusion.schedule import find_schedule, split_sampler_name
        from pochade.images.preprocessors import find_preprocessor

        def fetch(number: int) -> Any:
            return read_picture(inputs[number])

        for content in inputs:
            self.check_picture(content)
        if order.upscale is not None:
            self.catalogue.upscaler(order.upscale.upscaler)
            picture = fetch(order.upscale.image)
            limits.check_upscale(order.upscale, picture.width, picture.height, self.limits)
            return
        request = orders.request_of(order, fetch, self.catalogue)
        assert request.sampler is not None and request.schedule is not None
        find_sampler(split_sampler_name(request.sampler)[0])
        find_schedule(request.schedule)
        for control in request.controls:
            find_preprocessor(control.preprocessor)
        if request.source is not None:
            limits.check_size(request.source.image.width, request.source.image.height, self.limits)
        if order.expand:
            first = next(orders.batches(order, request, self.catalogue))
            for text in (first.prompt, first.negative_prompt):
                self.catalogue.check_prompt(text)

    def check_picture(self, content: bytes) -> None:
        """Raises InvalidRequest for what is no picture, or too large, before it is decoded."""
        with opened(content) as image:
            limits.check_size(image.width, image.height, self.limits)

    def _keep(
        self, job: Job, order: Order, inputs: Sequence[bytes], usual: tuple[int, int], model_bytes: int
    ) -> Job:
        predicted = cost.predict(self.database, order.model, expected_work(order, usual), model_bytes)
        job = replace(job, cost=predicted)
        try:
            for number, content in enumerate(inputs):
                keep_input(self.places, job.id, number, content)
            store.accept(self.database, job, orders.words(order))
        except BaseException:
            drop_inputs(self.places, job.id)
            raise
        return job

    # --- what became of it --------------------------------------------------------------------------------

    async def cancel(self, owner: str, job: str, how: str = "cancel") -> str | None:
        """how: "cancel", "keep" or "skip", see `drawing`. The state it was in; None: there is no such job."""
        live = self.board.live.get(job)
        if how == "skip" or (how == "keep" and live is not None and live.state == RUNNING):
            if live is None or live.owner != owner:
                found = await self.ask(history.find_job, job, owner)
                return None if found is None else found.state
            if live.state == RUNNING:
                live.interrupted = True
                self.supervisor.say(job, how)
            return live.state
        state = await self.ask(store.cancel, job, owner, self.clock())
        if state == QUEUED:
            await run_in_threadpool(drop_inputs, self.places, job)
            self.board.gone(job, "cancelled")
        elif state == RUNNING:
            if live is not None:
                live.interrupted = True
            self.supervisor.say(job, "cancel")
        return state

    async def cancel_all(self, owner: str) -> int:
        """Everything of theirs that is not over; how much that was."""
        waiting = await self.ask(store.cancel_waiting, owner, self.clock())
        for job in waiting:
            self.board.gone(job, "cancelled")
        for job in waiting:
            await run_in_threadpool(drop_inputs, self.places, job)
        running = [live.id for live in self.board.of(owner)]
        states = [await self.cancel(owner, job) for job in running]
        return len(waiting) + sum(state in (QUEUED, RUNNING) for state in states)

    async def wait(self, live: Live) -> tuple[Job, list[Picture]]:
        """Until the job is over. Raises Stopping if the server stops before."""
        await live.over.wait()
        job = await self.ask(history.find_job, live.id)
        if job is None or not job.over:
            raise Stopping("the server is about to stop; the job waits for its next start")
        return job, (await self.ask(history.pictures_of, [job.id]))[job.id]

    async def ask(self, function: Callable[..., T], *arguments: Any) -> T:
        """`function(database, *arguments)`, in a thread."""
        return await run_in_threadpool(function, self.database, *arguments)

    async def remove_pictures(self, pictures: Sequence[Picture]) -> None:
        """The files, after the rows."""
        await run_in_threadpool(discard, self.places, [picture.path for picture in pictures])
        self.stored_bytes -= sum(picture.bytes for picture in pictures)
        for owner in {picture.owner for picture in pictures}:
            gone = [picture.id for picture in pictures if picture.owner == owner]
            self.board.tell(owner, "", "", "removed", pictures=gone)

    async def refresh(self) -> None:
        """Look through the folders again."""
        self.catalogue = await run_in_threadpool(look, self.options.folders)

    # --- what workers tell --------------------------------------------------------------------------------

    def usual_size(self, model: str) -> tuple[int, int] | None:
        """Width and height, px, that a model draws if none are given; None if it has not been loaded yet."""
        return self._usual.get(model)

    def _heard(self, hand: Hand, event: Mapping[str, Any]) -> None:
        kind, job = event["event"], event.get("job")
        live = None if job is None else self.board.live.get(job)
        if kind == "ready":
            hand.state = "idle"
        elif kind == "started":
            hand.state, hand.job = "drawing", job
            self.board.started(str(job), event["model"], event["attempt"])
        elif kind == "loading":
            hand.state = "loading"
            if live is not None:
                self.board.publish(live, "loading", model=event["model"])
        elif kind == "loaded":
            hand.state, hand.model = "drawing" if job else "idle", event["model"]
            self._usual[event["model"]] = event["width"], event["height"]
        elif kind == "progress" and live is not None:
            live.step, live.steps = event["step"], event["steps"]
            live.number, live.pictures = event["picture"], event["pictures"]
            self.board.publish(live, "progress", **self.board.progress(live))
        elif kind == "preview" and live is not None:
            live.previews = event["images"]
            self.board.publish(live, "preview", picture=event["picture"], images=event["images"])
        elif kind == "partial" and live is not None:
            self.board.publish(
                live, "partial", index=event["index"], picture=event["picture"], images=event["images"]
            )
        elif kind == "lost":
            hand.state, hand.job = "idle", None
            self.later(self._settle({str(job)}))
        elif kind in ("finished", "cancelled", "failed"):
            hand.state, hand.job = "idle", None
            if live is not None:
                live.invalid = bool(event.get("invalid"))
            self.later(self._over(str(job)))

    async def _died(self, hand: Hand) -> None:
        """Its job waits again, or has failed; or it was over, and the word of it was lost."""
        dead = hand.name
        back = await self.ask(store.reclaim, self.clock(), lambda name: name == dead)
        self.places.worker(dead).unlink(missing_ok=True)
        await self._settle({each.job for each in back} | ({hand.job} if hand.job else set()))

    async def _settle(self, doubtful: set[str]) -> None:
        """Bring what the board says of these jobs into line with the store."""
        for job in doubtful:
            found = await self.ask(history.find_job, job)
            if found is None or found.over:
                await self._over(job)
            elif found.state == QUEUED:
                self.board.waits_again(job)
        self.supervisor.wake()

    async def _over(self, job: str) -> None:
        found = await self.ask(history.find_job, job)
        if found is None:
            self.board.gone(job, "cancelled")
            return
        if not found.over:
            return
        pictures = (await self.ask(history.pictures_of, [job]))[job]
        self.stored_bytes += sum(picture.bytes for picture in pictures)
        if found.state == FINISHED:
            seconds = round((found.ended or 0.0) - (found.started or 0.0), 3)
            self.board.gone(job, "finished", pictures=[shown(each) for each in pictures], seconds=seconds)
        elif found.state == FAILED:
            self.board.gone(job, "failed", error=found.error)
        else:
            self.board.gone(job, "cancelled")
        await run_in_threadpool(drop_inputs, self.places, job)

    # --- housekeeping -------------------------------------------------------------------------------------

    async def _tidy(self) -> None:
        """Jobs whose workers fell silent; room on the disk."""
        ours = {hand.job for hand in self.supervisor.hands}
        running = (live.id for live in self.board.live.values() if live.state == RUNNING)
        strange = set(running) - ours
        names = {hand.name for hand in self.supervisor.hands}
        now, before, self._tidied = self.clock(), self._tidied, self.clock()
        if now - before > 5 * TIDY_S:
            # This process stood still too, as a computer does that sleeps: the workers may speak first.
            self._patient_until = now + store.LEASE_S
        if (strange or ours - {None}) and now >= self._patient_until:
            back = await self.ask(
                store.reclaim, self.clock(), lambda name: name not in names and self._is_dead(name)
            )
            await self._settle(strange | {each.job for each in back})
        if self.stored_bytes > self.options.budget_bytes:
            gone = await self.ask(history.make_room, self.options.budget_bytes)
            await self.remove_pictures(gone)

    async def _tell_places(self) -> None:
        self.board.tell_places()

    async def _again(self, pause_s: float, work: Callable[[], Any]) -> None:
        while True:
            await asyncio.sleep(pause_s)
            try:
                await work()
            except Exception as error:  # the next time may be better, and the server goes on
                print(f"pochade: housekeeping: {type(error).__name__}: {error}", file=sys.stderr)

    def later(self, work: Any) -> None:
        """Run a coroutine by itself."""
        task = asyncio.create_task(work)
        self._soon.add(task)
        task.add_done_callback(self._soon.discard)

    def _sweep(self) -> None:
        active = {job.id for job in history.active_jobs(self.database)}
        known = history.known_paths(self.database)
        sweep(self.places, known.__contains__, active.__contains__)
        for file in (self.places.root / "workers").glob("*"):
            if is_dead(file):
                file.unlink(missing_ok=True)

    def _is_dead(self, name: str) -> bool:
        path = self.places.worker(name)
        return not path.exists() or is_dead(path)

    def _hand(self, device: str) -> Hand:
        options = {
            "device": device,
            "precision": self.options.precision,
            "engine": self.options.engine,
            "memory_budget": self.options.memory_budget,
            "marks": "yes" if self.options.marks else "no",
            "sign": "" if self.options.sign is None else str(self.options.sign),
        }
        settings = Settings(name="", places=self.places, folders=self.options.folders, options=options)
        return Hand(settings, device)

    def _name(self) -> str:
        return f"worker-{self._random(6)}"


def shown(picture: Picture) -> dict[str, Any]:
    """A picture as the native API shows it."""
    url = f"/api/v1/pictures/{picture.id}"
    return {
        "id": picture.id,
        "job": picture.job,
        "label": picture.label,
        "index": picture.number,
        "width": picture.width,
        "height": picture.height,
        "seed": picture.seed,
        "model": picture.model,
        "text": picture.text,
        "prompt": picture.prompt,
        "created": timestamp(picture.created),
        "pinned": picture.pinned,
        "bytes": picture.bytes,
        "url": url,
        "thumbnail": f"{url}/thumbnail",
    }


def timestamp(seconds: float) -> str:
    """ "2026-11-24T16:51:23.123Z"."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"


class _free:
    """Nothing to wait for."""

    async def __aenter__(self) -> None: ...
    async def __aexit__(self, *_: object) -> None: ...
