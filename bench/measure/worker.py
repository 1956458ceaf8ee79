"""Contenders in separate processes, which take turns.

In one process they would compete for the processor's cores and share one peak of memory. So each loads and
warms up in its own process and then evaluates on command; while one computes, the others wait in a blocking
read. The pause before each evaluation is longer than the time for which any threading runtime lets idle
threads spin (200 ms, Intel's OpenMP), so that a contender keeps its default behaviour and disturbs nobody.
"""

import multiprocessing
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from measure.machine import busy_seconds
from measure.record import is_quiet

PAUSE_S = 0.3
WARM_UP = 2
MOST = 3
"""While other work disturbs them, rounds are added, up to this many times what was asked for."""


class Phases:
    """A clock for the phases of loading and compiling: `with phases("load"): ...` sets `seconds["load"]`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begin


@dataclass(frozen=True)
class Contender:
    """A contender ready to run. evaluate(): the same evaluation each time. phases: seconds of each phase."""

    evaluate: Callable[[], Any]
    phases: dict[str, float]
    threads: int


@dataclass(frozen=True)
class Ready:
    """The first message of a contender's process: seconds of each phase, and the number of its threads."""

    phases: dict[str, float]
    threads: int


@dataclass(frozen=True)
class Turn:
    """One evaluation. processor_s: seconds of processor time, including threads and children; others_s:
    processor time of everything else on the machine meanwhile, None if the system does not report it."""

    seconds: float
    processor_s: float
    others_s: float | None
    result: Any


class Worker:
    """A process that runs one contender, created there by `start(*arguments)`.

    Both must be importable by name, as `multiprocessing` requires for its start method 'spawn'.
    Raises RuntimeError with the process's own traceback if something fails in it.
    """

    def __init__(self, start: Callable[..., Contender], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, start, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self.ready: Ready = self._receive()

    def turn(self) -> Turn:
        """Evaluate once, after a pause."""
        time.sleep(PAUSE_S)
        self._pipe.send(True)
        answer: Turn = self._receive()
        return answer

    def close(self) -> int:
        """End the process. Returns its peak memory, in bytes."""
        self._pipe.send(None)
        peak: int = self._receive()
        self._process.join()
        return peak

    def _receive(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"a contender's process ended with status {self._process.exitcode}") from None
        if isinstance(answer, BaseException):
            raise answer
        return answer


def take_turns(workers: Mapping[str, Worker], rounds: int, warm_up: int = WARM_UP) -> dict[str, list[Turn]]:
    """A B C A B C ... until each had `rounds` undisturbed turns after the warm-up, which is not counted."""
    turns: dict[str, list[Turn]] = {name: [] for name in workers}
    for number in range(MOST * rounds + warm_up):
        if all(_quiet_turns(so_far[warm_up:]) >= rounds for so_far in turns.values()):
            break
        for name, worker in workers.items():
            turn = worker.turn()
            turns[name].append(turn)
            beside = "" if turn.others_s is None else f", others {turn.others_s:.2f} s"
            print(f"{number + 1} {name}: {turn.seconds:.3f} s{beside}", flush=True)
    return {name: all_turns[warm_up:] for name, all_turns in turns.items()}


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call `function(*arguments)` in a process, so that its memory is freed afterwards."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_call, args=(theirs, function, arguments), daemon=True)
    process.start()
    theirs.close()
    answer = None
    with suppress(EOFError):
        answer = ours.recv()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"{function.__name__} ended with status {process.exitcode}")
    return answer


def peak_bytes() -> int:
    """Peak memory of this process, including mapped pages of files."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _quiet_turns(turns: Sequence[Turn]) -> int:
    return sum(is_quiet(turn.seconds, turn.others_s) for turn in turns)


def _call(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    pipe.send(function(*arguments))


def _timed(evaluate: Callable[[], Any]) -> Turn:
    busy = busy_seconds()
    processor, begin = _processor_seconds(), time.perf_counter()
    result = evaluate()
    seconds, processor_s = time.perf_counter() - begin, _processor_seconds() - processor
    busy_after = busy_seconds()
    others_s = None if busy is None or busy_after is None else max(0.0, busy_after - busy - processor_s)
    return Turn(seconds, processor_s, others_s, result)


def _processor_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _serve(pipe: Connection, start: Callable[..., Contender], arguments: tuple[Any, ...]) -> None:
    try:
        contender = start(*arguments)
        pipe.send(Ready(contender.phases, contender.threads))
        while pipe.recv() is not None:
            pipe.send(_timed(contender.evaluate))
        pipe.send(peak_bytes())
    except Exception:
        pipe.send(RuntimeError(traceback.format_exc()))
