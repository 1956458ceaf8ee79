"""Worker processes, started and started again; what they tell is passed on."""

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
"""Of an event: pictures on the way are told in full size."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 30.0
"""Between the end of a worker and the start of the next: twice as long each time."""
STEADY_S = 60.0
"""One that lived for so long starts again without much of a pause."""

WATCH_S = 5.0
"""Between two looks at how long the workers have been silent."""
CLOSING_S = 5.0
"""For so long a process may live on once it has closed its output."""

Heard = Callable[["WorkerSlot", Mapping[str, Any]], None]
Died = Callable[["WorkerSlot"], Awaitable[None]]
Patience = Callable[["WorkerSlot"], float]
"""How long a process may be silent in its present state, s."""


@dataclass(eq=False)
class WorkerSlot:
    """A place for one worker process after another. settings: without the name, which each process has anew.

    state: starting, idle, loading, drawing or broken. job: what it draws. restarts: after deaths.
    silent_s: since the process last said anything; time in which the computer slept does not count.
    wanted: of a place whose settings say that it fetches models: there is one to fetch. Only then is there a
        process, which ends by itself when there is no more.
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

    def say(self, do: str, **about: Any) -> None:
        """A word to the process; a dead one hears nothing, and its successor finds all in the store."""
        if self.process is None or self.process.stdin is None or self.process.stdin.is_closing():
            return
        with contextlib.suppress(OSError, RuntimeError):
            self.process.stdin.write(json.dumps({"do": do, **about}).encode() + b"\n")


class Supervisor:
    """heard: called with each event. died: awaited after each end of a process, before the next one starts.

    Whatever these two raise is printed and changes nothing: a place is kept until the supervisor stops.

    names: a new name for each process. patience: a process that is silent for longer is killed, and another
    one started; it hangs. command: what starts one.
    """

    def __init__(
        self,
        slots: Sequence[WorkerSlot],
        heard: Heard,
        died: Died,
        names: Callable[[], str],
        patience: Patience,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.slots = list(slots)
        self._heard, self._died, self._names, self._command = heard, died, names, command
        self._patience = patience
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._keep(slot)) for slot in self.slots]
        self._watching = asyncio.create_task(self._watch())

    def wake(self, *, pulls: bool = False) -> None:
        """There is a new job; pulls: a model to fetch."""
        for slot in self.slots:
            if slot.pulls and pulls:
                slot.wanted.set()
            if slot.job is None:
                slot.say("wake")

    def say(self, job: str, do: str) -> None:
        """To whoever draws this job; to all if none has told so yet: it may have been taken a moment ago."""
        for slot in [slot for slot in self.slots if slot.job == job] or self.slots:
            slot.say(do, job=job)

    def say_to_all(self, do: str) -> None:
        for slot in self.slots:
            slot.say(do)

    async def stop(self, grace_s: float) -> None:
        """Let each worker end what it draws; after so long, what it draws waits for the next server."""
        self._stopping = True
        if self._watching is not None:
            self._watching.cancel()
        for slot in self.slots:
            slot.wanted.set()
            slot.say("stop")
        ended = [slot.process.wait() for slot in self.slots if slot.process is not None]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*ended), grace_s)
        for slot in self.slots:
            slot.say("requeue")
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
                continue  # there was nothing left to fetch
            slot.state, slot.process = "broken", None
            try:
                await self._died(slot)
            except Exception as error:  # its job is found again by whoever looks through the store
                log(f"a worker died, and its job could not be returned to the queue: {error}")
            slot.job = None
            slot.restarts += 1
            pause = FIRST_PAUSE_S if loop.time() - began > STEADY_S else pause
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE_S, 2 * pause)

    async def _run(self, slot: WorkerSlot) -> None:
        """One process from its start to its end."""
        slot.process = process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            start_new_session=True,  # Ctrl-C is for the server, which then tells its workers
        )
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(replace(slot.settings, name=slot.name).line().encode() + b"\n")
        try:
            while line := await process.stdout.readline():
                self._pass_on(slot, line)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), CLOSING_S)
        except ValueError as error:  # of the stream: a line that is longer than any of ours
            log(f"the worker's output cannot be read: {error}")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def _pass_on(self, slot: WorkerSlot, line: bytes) -> None:
        """A process that is killed while it writes leaves half a line; no line ends this one's keeper."""
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
                self.look_at(slot, WATCH_S)

    def look_at(self, slot: WorkerSlot, passed_s: float) -> None:
        """Kill a process that has been silent for too long. passed_s: of looking, since the look before."""
        if slot.process is None or slot.process.returncode is not None:
            return
        slot.silent_s += passed_s
        if slot.silent_s > self._patience(slot):
            log(
                f"the worker ({slot.state}) has reported nothing for {slot.silent_s:.0f} s; it is replaced"
                " by a new one"
            )
            slot.silent_s = 0.0
            with contextlib.suppress(ProcessLookupError):
                slot.process.kill()
