"""Starts worker processes, restarts them when they end, and passes on their events."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pochade.jobs.log import log
from pochade.jobs.worker import WorkerSettings

COMMAND = (sys.executable, "-m", "pochade.jobs.worker")
LINE_BYTES = 256 * 2**20
"""Longest line of an event; previews may be sent in full size."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 30.0
"""Pauses before a worker is restarted, s: doubled each time."""
STEADY_S = 60.0
"""A worker that ran for this long is restarted without a long pause, s."""

WATCH_S = 5.0
"""Interval between checks for silent workers, s."""
CLOSING_S = 5.0
"""How long a process may live after closing its output, s."""

EventHandler = Callable[["WorkerSlot", Mapping[str, Any]], None]
DeathHandler = Callable[["WorkerSlot"], Awaitable[None]]
SilenceLimit = Callable[["WorkerSlot"], float]
"""How long a process may be silent in its current state, s."""


@dataclass(eq=False)
class WorkerSlot:
    """A slot that runs one worker process at a time. settings: without the name, which is new for each
    process.

    state: starting, idle, loading, drawing or broken. job: the running one. restarts: after deaths. silent_s:
    since the process last sent anything; time during which the computer slept is not counted. wanted: of a
    slot for model downloads: whether there is one to do. Only then it has a process, which ends after the
    last one.
    """

    settings: WorkerSettings
    device: str
    state: str = "starting"
    model: str = ""
    job: str | None = None
    restarts: int = 0
    process: "asyncio.subprocess.Process | None" = field(default=None, repr=False)
    name: str = ""
    silent_s: float = 0.0
    wanted: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def pulls(self) -> bool:
        return self.settings.pulls

    def send(self, do: str, **about: Any) -> None:
        """Send a command to the process. A dead process misses it; its successor reads the store."""
        if self.process is None or self.process.stdin is None or self.process.stdin.is_closing():
            return
        with contextlib.suppress(OSError, RuntimeError):
            self.process.stdin.write(json.dumps({"do": do, **about}).encode() + b"\n")


class Supervisor:
    """Keeps one worker process running in each slot, and restarts those that die or hang.

    on_event: called with each event of a worker. on_death: awaited after a process ends, before the next one
    starts. An exception from either is logged and changes nothing.

    names: returns a new name for each process. silence_limit: how long a process may be silent, s; then it
    is killed and replaced. command: starts a worker.
    """

    def __init__(
        self,
        slots: Sequence[WorkerSlot],
        on_event: EventHandler,
        on_death: DeathHandler,
        names: Callable[[], str],
        silence_limit: SilenceLimit,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.slots = list(slots)
        self._heard, self._died, self._names, self._command = on_event, on_death, names, command
        self._silence_limit_s = silence_limit
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._keep(slot)) for slot in self.slots]
        self._watching = asyncio.create_task(self._watch())

    def wake(self, *, pulls: bool = False) -> None:
        """Wake the workers for a new job. pulls: the job downloads a model."""
        for slot in self.slots:
            if slot.pulls and pulls:
                slot.wanted.set()
            if slot.job is None:
                slot.send("wake")

    def send(self, job: str, do: str) -> None:
        """Send a command to the worker that draws this job, or to all if none has reported it: it may just
        have been taken."""
        for slot in [slot for slot in self.slots if slot.job == job] or self.slots:
            slot.send(do, job=job)

    def send_to_all(self, do: str) -> None:
        for slot in self.slots:
            slot.send(do)

    async def stop(self, grace_s: float) -> None:
        """Let each worker finish its job; after grace_s the jobs are left for the next start."""
        self._stopping = True
        if self._watching is not None:
            self._watching.cancel()
        for slot in self.slots:
            slot.wanted.set()
            slot.send("stop")
        ended = [slot.process.wait() for slot in self.slots if slot.process is not None]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*ended), grace_s)
        for slot in self.slots:
            slot.send("requeue")
            if slot.process is not None and slot.process.stdin is not None:
                slot.process.stdin.close()
        await asyncio.wait(self._tasks, timeout=5.0) if self._tasks else None
        for slot in self.slots:
            if slot.process is not None and slot.process.returncode is None:
                slot.process.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, slot: WorkerSlot) -> None:
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE_S
        while not self._stopping:
            if slot.pulls:
                slot.state, slot.process = "idle", None
                await slot.wanted.wait()
                slot.wanted.clear()
                if self._stopping:
                    return
            began = loop.time()
            slot.name, slot.state, slot.job, slot.silent_s = self._names(), "starting", None, 0.0
            try:
                await self._run(slot)
            except Exception as error:
                log(f"the worker cannot be started: {error}")
            if self._stopping:
                return
            if slot.pulls and slot.process is not None and slot.process.returncode == 0:
                continue  # there was nothing left to download
            slot.state, slot.process = "broken", None
            try:
                await self._died(slot)
            except Exception as error:  # `reclaim` finds its job
                log(f"a worker died, and its job could not be returned to the queue: {error}")
            slot.job = None
            slot.restarts += 1
            pause = FIRST_PAUSE_S if loop.time() - began > STEADY_S else pause
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE_S, 2 * pause)

    async def _run(self, slot: WorkerSlot) -> None:
        """Run one process from start to end."""
        slot.process = process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            start_new_session=True,  # Ctrl-C must reach only the server, which then stops its workers
        )
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(replace(slot.settings, name=slot.name).line().encode() + b"\n")
        try:
            while line := await process.stdout.readline():
                self._pass_on(slot, line)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), CLOSING_S)
        except ValueError as error:  # raised by the stream: the line is too long
            log(f"the worker's output cannot be read: {error}")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def _pass_on(self, slot: WorkerSlot, line: bytes) -> None:
        """Pass on one line. A killed process may leave half a line, which must not stop this task."""
        slot.silent_s = 0.0
        try:
            self._heard(slot, json.loads(line))
        except Exception as error:
            shown = f"{line[:60]!r}: {type(error).__name__}: {error}"
            log(f"invalid line in the worker's output: {shown}")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            for slot in self.slots:
                self.check_slot(slot, WATCH_S)

    def check_slot(self, slot: WorkerSlot, passed_s: float) -> None:
        """Kill a process that has been silent for too long. passed_s: since the previous check."""
        if slot.process is None or slot.process.returncode is not None:
            return
        slot.silent_s += passed_s
        if slot.silent_s > self._silence_limit_s(slot):
            log(
                f"the worker ({slot.state}) has reported nothing for {slot.silent_s:.0f} s; it is replaced"
                " by a new one"
            )
            slot.silent_s = 0.0
            with contextlib.suppress(ProcessLookupError):
                slot.process.kill()
