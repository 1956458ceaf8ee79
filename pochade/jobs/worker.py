"""The worker: a process that takes jobs, draws them and ends them. `python -m pochade.jobs.worker`.

The first line of its standard input contains its settings; each further line is a command from the server:
cancel a job, look for a new one, or stop. It writes events to standard output, one JSON object per line. They
are only for watchers: the state of jobs is in the store, which the worker writes itself.

It ends when its input ends, so that no worker outlives its server; its job is queued again.
"""

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TextIO

from pochade.errors import InvalidRequest
from pochade.jobs import store
from pochade.jobs.catalogue import Folders
from pochade.jobs.database import Database, StoreFailed
from pochade.jobs.errors import is_of_the_disk, reason_of
from pochade.jobs.log import log
from pochade.jobs.orders import Order, read_order
from pochade.jobs.previews import PreviewSchedule, data_url
from pochade.jobs.pricing import work_of
from pochade.jobs.records import CANCELLED, FINISHED, FinishedPicture, Lease
from pochade.jobs.runner import (
    CANCEL,
    SKIP,
    Batch,
    Event,
    Fetched,
    Loaded,
    Loading,
    Read,
    StepDone,
    StopSignal,
)
from pochade.jobs.storage import Storage, alive, discard, drop_inputs, keep_picture, read_input

if TYPE_CHECKING:
    from collections.abc import Iterator

IDLE_FETCHER_S = 10.0
"""Idle time after which the download process ends; a new one is started when needed, s."""
FETCHED_S = 0.5
"""Interval between progress events of a download, s."""
LOOK_S = 1.0
"""How often an idle worker looks for jobs without being woken, s."""
HEARTBEAT_S = store.LEASE_S / 6
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
"""Pauses before a failed write to the store is retried, s: doubled each time."""
TRIES = 3
"""Attempts to end a job if the error is not a disk error and so may be a bug."""


class DrawsJobs(Protocol):
    """`runner.JobRunner`, or a fake in tests."""

    def prepare(self, model: str | None) -> "Iterator[Event]": ...
    def draw(self, order: Order, read: Read, stop_signal: StopSignal) -> "Iterator[Event]": ...
    def forget(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """Settings of a worker. name: unique in its storage folder. options: see `runner.JobRunner`.

    pulls: download models instead of drawing, and end when there are none left.
    """

    name: str
    storage: Storage
    folders: Folders
    options: dict[str, str]
    prepare: bool = True
    pulls: bool = False

    def line(self) -> str:
        values = {
            "name": self.name,
            "root": str(self.storage.root),
            "folders": self.folders.as_json(),
            "options": self.options,
            "prepare": self.prepare,
            "pulls": self.pulls,
        }
        return json.dumps(values)


def read_settings(line: str) -> WorkerSettings:
    """The inverse of `WorkerSettings.line`."""
    from pathlib import Path

    values = json.loads(line)
    return WorkerSettings(
        name=values["name"],
        storage=Storage(Path(values["root"])),
        folders=Folders.from_json(values["folders"]),
        options=values["options"],
        prepare=values["prepare"],
        pulls=values["pulls"],
    )


class Worker:
    """A worker. clock: seconds since 1970. random: n -> n random bytes in hexadecimal digits."""

    def __init__(
        self,
        settings: WorkerSettings,
        runner: DrawsJobs,
        output: BinaryIO,
        clock: Callable[[], float],
        random: Callable[[int], str],
    ) -> None:
        self.settings, self.storage = settings, settings.storage
        self.database = Database(settings.storage.database)
        self.runner, self.output = runner, output
        self.clock, self.random = clock, random
        self._output_lock = threading.Lock()
        self._wake = threading.Event()
        self._state = threading.Lock()
        self._lease: Lease | None = None
        self._requested: str | None = None
        self._leaving = False
        self._rescan = threading.Event()
        self._here = 0.0

    # --- commands --------------------------------------------------------------------------------------

    def listen(self, lines: TextIO) -> None:
        """Read commands until the input ends, even in the middle of a line; then end the process."""
        try:
            for line in lines:
                command = json.loads(line)
                if command["do"] == "stop" and self.settings.pulls:
                    break  # a download may take hours, and its partial files are kept
                if command["do"] == "stop":
                    self._leaving = True
                    self._wake.set()
                elif command["do"] == "requeue":
                    break
                elif command["do"] == "wake":
                    self._wake.set()
                elif command["do"] == "rescan":
                    self._rescan.set()
                else:
                    with self._state:
                        # Ignore commands for jobs that have ended.
                        if self._lease is not None and self._lease.job.id == command["job"]:
                            self._requested = command["do"]
        finally:
            self.leave()

    def leave(self) -> None:
        """End at once, even during a step; the job is queued again."""
        with self._state:
            if self._lease is not None:
                with suppress(Exception):  # the process ends anyway, and the lease expires
                    store.release(self.database, self._lease.job.id, self._lease.token)
            os._exit(0)

    def emit(self, event: str, **about: Any) -> None:
        line = json.dumps({"event": event, **about}).encode() + b"\n"
        try:
            with self._output_lock:
                self.output.write(line)
                self.output.flush()
        except OSError:  # the server has gone
            self.leave()

    # --- jobs ------------------------------------------------------------------------------------------

    def run(self) -> None:
        threading.Thread(target=self._heartbeat, daemon=True).start()
        if self.settings.prepare:
            self._prepare()
        self.emit("ready")
        idle_since = time.monotonic()
        while not self._leaving:
            self._wake.clear()
            who = self.settings.name, self.random(16), self.clock()
            try:
                lease = store.take(self.database, *who, pulls=self.settings.pulls)
            except StoreFailed as error:  # the disk may be full temporarily
                log(f"the next job could not be taken from the queue: {error}")
                lease = None
            if lease is None:
                if self.settings.pulls and time.monotonic() - idle_since > IDLE_FETCHER_S:
                    return
                self._emit_idle()
                self._wake.wait(LOOK_S)
                continue
            with self._state:
                self._lease, self._requested = lease, None
            try:
                self._job(lease)
            finally:
                with self._state:
                    self._lease = None
                idle_since = time.monotonic()

    def _emit_idle(self) -> None:
        """Send an event while idle, so that the supervisor knows that this process does not hang."""
        if time.monotonic() - self._here >= HEARTBEAT_S:
            self._here = time.monotonic()
            self.emit("here")

    def _prepare(self) -> None:
        try:
            for event in self.runner.prepare(None):
                self._emit_loading(event)
        except Exception as error:  # each job will report it to its owner; another model may work
            log(f"the model could not be loaded: {reason_of(error)}")

    def _job(self, lease: Lease) -> None:
        job, drawn = lease.job, list[FinishedPicture]()
        self.emit("started", job=job.id, model=job.model, attempt=job.attempts, at=job.started)
        self._ask_store(lease)  # requests made after the job was taken, before the server knew
        if self._rescan.is_set():
            self._rescan.clear()
            self.runner.forget()
        try:
            order = read_order(job.order)
            seconds = 0.0 if self._requested == CANCEL else self._draw(lease, order, drawn)
            cancelled = self._requested == CANCEL
            work = None if cancelled or self._requested else work_of(order, drawn)
            state = CANCELLED if cancelled else FINISHED
            self._end(
                lease, lambda: store.finish(self.database, lease, drawn, self.clock(), work, seconds, state)
            )
            over: dict[str, Any] = {"event": state}
        except store.LeaseLost:
            discard(self.storage, [picture.path for picture in drawn])
            self.emit("lost", job=job.id)
            return
        except Exception as error:
            reason = reason_of(error)
            over = {
                "event": "failed",
                "error": reason,
                "invalid": isinstance(error, InvalidRequest),
                "no_room": is_of_the_disk(error),
            }
            discard(self.storage, [picture.path for picture in drawn])
            try:
                self._end(lease, lambda: store.fail(self.database, lease, reason, self.clock()))
            except store.LeaseLost:
                self.emit("lost", job=job.id)
                return
        drop_inputs(self.storage, job.id)
        self.emit(over.pop("event"), job=job.id, **over)

    def _end(self, lease: Lease, end: Callable[[], None]) -> None:
        """Retry until the store accepts the end, so that finished pictures are not lost on a full disk.

        Raises LeaseLost at once, and errors that are not disk errors after TRIES attempts.
        """
        pause, tries = FIRST_PAUSE_S, 0
        while True:
            try:
                end()
                return
            except store.LeaseLost:
                raise
            except Exception as error:
                tries += 1
                if tries >= TRIES and not isinstance(error, StoreFailed):
                    raise
                log(f"job {lease.job.id} has ended but could not be recorded yet: {error}")
            self.emit("waiting", job=lease.job.id)
            time.sleep(pause)
            pause = min(LONGEST_PAUSE_S, 2 * pause)

    def _draw(self, lease: Lease, order: Order, drawn: list[FinishedPicture]) -> float:
        """Draw; return the duration, s, without loading and compiling, which happen in the first step."""

        def read(number: int) -> bytes:
            return read_input(self.storage, lease.job, number)

        previews, partials, reported = PreviewSchedule(time.monotonic), order.partials, 0.0
        first, steps, batches = 0.0, 0, 0
        for event in self.runner.draw(order, read, self._stop_signal):
            if isinstance(event, StepDone):
                self._emit_step(lease, order, event)
                steps += 1
                first = time.monotonic() if steps == 1 else first
                if partials and event.step >= (order.partials + 1 - partials) * event.steps // (
                    order.partials + 1
                ):
                    index, partials = order.partials - partials, partials - 1
                    images = [data_url(image, "PNG") for image in event.now().images]
                    self.emit("partial", job=lease.job.id, index=index, picture=event.number, images=images)
                elif order.preview and previews.due():
                    with previews.taking():
                        images = [data_url(image, "JPEG") for image in event.preview()]
                    self.emit("preview", job=lease.job.id, picture=event.number, images=images)
            elif isinstance(event, Batch):
                batches += 1
                for image, seed, text in zip(event.images, event.seeds, event.texts, strict=True):
                    number = len(drawn)
                    of = self.storage, lease, number, image, text, seed, event.prompt
                    drawn.append(keep_picture(*of, mark=event.mark, sign=event.sign))
            elif isinstance(event, Fetched):
                if time.monotonic() - reported >= FETCHED_S:
                    reported = time.monotonic()
                    self.emit("fetched", job=lease.job.id, bytes=event.bytes, total=event.total)
            else:
                self._emit_loading(event, job=lease.job.id)
        # The last step of a batch is reported as its pictures. Only the first step is not timed.
        count, known = steps + batches, steps + batches - 1
        return (time.monotonic() - first) * count / known if steps and known else 0.0

    def _stop_signal(self) -> str | None:
        with self._state:
            requested = self._requested
            if requested == SKIP:
                self._requested = None
            return requested

    def _emit_step(self, lease: Lease, order: Order, step: StepDone) -> None:
        self.emit(
            "progress",
            job=lease.job.id,
            step=step.step,
            steps=step.steps,
            picture=step.number,
            pictures=order.pictures,
        )

    def _emit_loading(self, event: Event, **about: Any) -> None:
        if isinstance(event, Loading):
            self.emit("loading", model=event.model, **about)
        elif isinstance(event, Loaded):
            self.emit("loaded", model=event.model, width=event.width, height=event.height, **about)

    def _heartbeat(self) -> None:
        """Send heartbeats to the store. A job that was taken back is abandoned."""
        while True:
            time.sleep(HEARTBEAT_S)
            with self._state:
                lease = self._lease
            if lease is not None:
                self._ask_store(lease)

    def _ask_store(self, lease: Lease) -> None:
        """Extend the lease, and check for a cancellation whose command did not arrive."""
        try:
            requested = store.heartbeat(self.database, lease.job.id, lease.token, self.clock())
        except store.LeaseLost:
            requested = CANCEL
        except Exception as error:  # retried, since the store may be busy
            log(f"the job database did not answer: {error}")
            return
        if requested == CANCEL:
            with self._state:
                if self._lease is lease:
                    self._requested = CANCEL


def main(runner: Callable[[WorkerSettings], DrawsJobs] | None = None) -> None:
    """Run until standard input ends. runner: replaces the default runner."""
    import secrets

    # A private duplicate, in case other code in this process reads, closes or locks standard input.
    lines = os.fdopen(os.dup(0), encoding="utf-8")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    first = lines.readline()
    if not first:  # the server ended before it sent the settings
        lines.close()
        return
    # Output of other code, including native code, must not mix with the events.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    settings = read_settings(first)
    with alive(settings.storage.worker(settings.name)):
        draws = _default_runner(settings) if runner is None else runner(settings)
        worker = Worker(settings, draws, output, time.time, secrets.token_hex)
        threading.Thread(target=worker.listen, args=(lines,), daemon=True).start()
        worker.run()
        os._exit(0)  # other threads are blocked reading input, and Python would wait for them


def _default_runner(settings: WorkerSettings) -> DrawsJobs:
    if settings.pulls:
        from pochade.jobs.pulls import Fetcher

        return Fetcher(settings.folders)
    from pochade.jobs.runner import JobRunner

    return JobRunner(settings.folders, **settings.options)


if __name__ == "__main__":
    main()
