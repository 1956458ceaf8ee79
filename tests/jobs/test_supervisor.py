"""A place for a worker is kept, whatever its processes do and however they end."""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pochade.jobs import supervisor
from pochade.jobs.catalogue import Folders
from pochade.jobs.storage import Storage
from pochade.jobs.supervisor import Supervisor, WorkerSlot
from pochade.jobs.worker import WorkerSettings

PROCESS = """
import json, os, sys, time
name = json.loads(sys.stdin.readline())["name"]
def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()
ready = json.dumps({"event": "ready", "name": name}) + "\\n"
if name == "w1":
    FAULT
say(ready)
for line in sys.stdin:
    say(json.dumps({"event": "said", "name": name, "line": line}) + "\\n")
"""

FAULTS = {
    "half a line": "say(ready[:9]); os._exit(9)",
    "half a character": 'sys.stdout.buffer.write(b\'{"event": "\\xc3\'); sys.stdout.flush(); os._exit(9)',
    "nothing": "os._exit(9)",
    "what is no event": "say('[1, 2]\\n'); os._exit(9)",
    "what cannot be dealt with": 'say(\'{"event": "fault"}\\n\'); os._exit(9)',
    "a line without an end": "say('x' * 10_000_000); time.sleep(1000)",
    "an output that is closed": "os.close(1); time.sleep(1000)",
}


class Ended:
    """Runs a supervisor with one place until a process of the name says that it is ready."""

    def __init__(self, fault: str, until: str = "w2", patience: float = 1e9, mourning: bool = True) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.until, self.count, self.dead = until, 0, list[str]()
        self.mourning = mourning
        self.there = asyncio.Event()
        settings = WorkerSettings(name="", storage=Storage(Path("/nowhere")), folders=Folders(), options={})
        self.slot = WorkerSlot(settings, "cpu")
        command = (sys.executable, "-c", PROCESS.replace("FAULT", fault))
        self.supervisor = Supervisor(
            [self.slot], self.heard, self.died, self.name, lambda _: patience, command
        )

    def name(self) -> str:
        self.count += 1
        return f"w{self.count}"

    def heard(self, slot: WorkerSlot, event: Mapping[str, Any]) -> None:
        if event["event"] == "fault":
            raise KeyError("what")
        self.events.append(event)
        if event.get("name") == self.until:
            slot.state = "idle"
            self.there.set()

    async def died(self, slot: WorkerSlot) -> None:
        self.dead.append(slot.name)
        if not self.mourning:
            raise OSError("the disk is full")

    async def run(self) -> None:
        self.supervisor.start()
        await asyncio.wait_for(self.there.wait(), 30)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FIRST_PAUSE_S": 0.01, "CLOSING_S": 0.05, "LINE_BYTES": 100_000}.items():
        monkeypatch.setattr(supervisor, name, value)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
@pytest.mark.parametrize("mourning", [True, False], ids=["mourned", "the store refuses"])
def test_another_process_starts_however_one_ends(fault: str, mourning: bool) -> None:
    async def go() -> None:
        ended = Ended(fault, mourning=mourning)
        await ended.run()
        assert ended.dead == ["w1"] and ended.slot.restarts == 1
        assert ended.slot.name == "w2" and ended.slot.job is None
        await ended.supervisor.stop(0.1)

    asyncio.run(go())


def test_a_line_that_is_not_understood_is_passed_over_and_the_next_one_heard(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def go() -> None:
        ended = Ended("say('what a library prints\\n')", until="w1")
        await ended.run()
        assert ended.dead == []
        await ended.supervisor.stop(0.1)

    asyncio.run(go())
    assert "invalid line in the worker's output: b'what a library prints" in capsys.readouterr().err


def test_a_command_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        ended = Ended("pass")
        right, ended.supervisor._command = ended.supervisor._command, ("/nowhere/at\0all",)

        def name() -> str:
            ended.count += 1
            if ended.count == 3:
                ended.supervisor._command = right
            return f"w{ended.count}"

        ended.supervisor._names, ended.until = name, "w3"
        await ended.run()
        assert ended.dead == ["w1", "w2"]
        await ended.supervisor.stop(0.1)

    asyncio.run(go())


def test_a_process_that_hangs_is_ended_and_one_that_speaks_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    async def go() -> None:
        ended = Ended("pass", until="w1", patience=60.0)
        await ended.run()
        check = ended.supervisor.check_slot
        for _ in range(5):  # each time it speaks, it begins anew
            check(ended.slot, 50.0)
            count = len(ended.events)
            ended.slot.send("hello")
            while len(ended.events) == count:
                await asyncio.sleep(0.01)
        assert ended.dead == [] and ended.slot.silent_s == 0.0
        ended.there.clear()
        ended.until = "w2"
        check(ended.slot, 50.0)
        assert ended.dead == []
        check(ended.slot, 50.0)
        await asyncio.wait_for(ended.there.wait(), 30)
        assert ended.dead == ["w1"]
        await ended.supervisor.stop(0.1)

    asyncio.run(go())
    assert "has reported nothing for 100 s" in capsys.readouterr().err


def test_a_word_about_a_job_that_nobody_has_told_of_goes_to_all() -> None:
    async def go() -> None:
        ended = Ended("pass", until="w1")
        await ended.run()
        for job, heard in ((None, True), ("mine", True), ("another", True)):
            ended.slot.job, count = job, len(ended.events)
            ended.supervisor.send("mine", "cancel")
            while len(ended.events) == count:
                await asyncio.sleep(0.01)
            assert heard and json.loads(ended.events[-1]["line"]) == {"do": "cancel", "job": "mine"}
        await ended.supervisor.stop(0.1)

    asyncio.run(go())


def test_a_log_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    async def go() -> None:
        ended = Ended("say('no event\\n' + ready[:9]); os._exit(9)", mourning=False)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", Full())
            await ended.run()
            await ended.supervisor.stop(0.1)

    asyncio.run(go())
