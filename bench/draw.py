"""Measure the time from the command line to the saved picture: the starter, 20 guided steps, native size.

    python bench/draw.py [--rounds 7] [--quick]

"start" is a process with `pochade draw`, from its start to its end, with compiled graphs and Python's
bytecode cached by an earlier start. "warm" is a pipeline that has drawn before, from prompt to PNG. Both in
f32 and in int8, exact and fast, taking turns.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measure.machine import describe_machine, versions
from measure.record import Measured, append, record
from measure.tables import times
from measure.worker import Contender, Phases, Worker, take_turns

RESULTS = Path(__file__).parent / "results" / "draw.jsonl"
GOALS_S = {"start": 1.5, "warm": 0.5}
FORMS = [(precision, speed) for precision in ("f32", "int8") for speed in ("exact", "fast")]
PROMPT = "a fox, on a light blue background, 3d style"
STEPS = 20


def main() -> None:
    options = _options()
    forms = FORMS[:1] if options.quick else FORMS
    with tempfile.TemporaryDirectory() as folder:
        ways = {"start": started, "warm": warm}
        workers = {
            f"{kind} {precision} {speed}": Worker(way, precision, speed, Path(folder))
            for kind, way in ways.items()
            for precision, speed in forms
        }
        turns = take_turns(workers, 1 if options.quick else options.rounds)
        measured = {
            name: Measured(
                seconds=[turn.seconds for turn in turns[name]],
                processor_s=[turn.processor_s for turn in turns[name]],
                others_s=[turn.others_s for turn in turns[name]],
                error=None,
                threads=worker.ready.threads,
                phases=worker.ready.phases,
                peak_bytes=worker.close(),
            )
            for name, worker in workers.items()
        }
    machine = describe_machine()
    print(f"\n{machine['processor']}, {machine['cores']} cores, load average {machine['load_average']}")
    print(times(measured))
    for name, found in measured.items():
        goal = GOALS_S[name.split()[0]]
        print(f"{name}: {found.median:.2f} s, goal {goal:g} s: {'met' if found.median <= goal else 'MISSED'}")
    if not options.quick:
        context = {"machine": machine, "versions": versions(("numpy", "openvino"))}
        append(options.results, record("draw", measured, steps=STEPS, **context))


def started(precision: str, speed: str, folder: Path) -> Contender:
    """Run `pochade draw` in a process, from its start to its end."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "POCHADE_CACHE": str(folder / "cache"),
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    ways = ["--precision", precision, "--speed", speed, "--steps", str(STEPS), "--seed", "1"]
    command = [sys.executable, "-m", "pochade", "draw", PROMPT, *ways]

    def evaluate() -> None:
        file = folder / "start.png"
        subprocess.run([*command, "-o", str(file)], env=environment, check=True, capture_output=True)
        file.unlink()

    return Contender(evaluate, {}, threads=0)


def warm(precision: str, speed: str, folder: Path) -> Contender:
    """A loaded pipeline: prompt to PNG."""
    os.environ["POCHADE_CACHE"] = str(folder / "cache")
    phases = Phases()
    with phases("import"):
        import pochade
    with phases("load"):
        pipeline = pochade.load(device="cpu", precision=precision)

    def evaluate() -> None:
        file = folder / "warm.png"
        pipeline.txt2img(PROMPT, seed=1, steps=STEPS, speed=speed).images[0].save(file)
        file.unlink()

    return Contender(evaluate, phases.seconds, threads=0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="pictures of each that count (default 7)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file that gets a line of JSON")
    parser.add_argument("--quick", action="store_true", help="to try the script itself; nothing is recorded")
    return parser.parse_args()


if __name__ == "__main__":
    main()
