"""Measure a whole picture of the starter, 20 guided steps, native size: Pochade, and diffusers.

    python bench/starter.py [--steps 20] [--rounds 9]

Both load the folder in the package, draw the same prompt from the same noise, and take turns, warm. The error
is that of the picture, relative to diffusers in f32.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from contenders.starter import diffusers_picture, pochade_picture, start_noise
from measure.machine import describe_machine, versions
from measure.record import Measured, append, ratios, record
from measure.tables import times
from measure.worker import Worker, in_own_process, take_turns

RESULTS = Path(__file__).parent / "results" / "starter.jsonl"
OURS = "pochade"
GOAL_S = 1.0
"""What a picture may take at most, on two cores."""


def main() -> None:
    options = _options()
    if options.quick:
        options.steps, options.rounds = 2, 1
    noise = start_noise()
    answer = in_own_process(_reference, options.steps, noise)
    workers = {
        OURS: Worker(pochade_picture, "auto", options.steps, noise),
        "pochade-f32": Worker(pochade_picture, "f32", options.steps, noise),
        "diffusers-bf16": Worker(diffusers_picture, "bf16", options.steps, noise),
        "diffusers-f32": Worker(diffusers_picture, "f32", options.steps, noise),
    }
    turns = take_turns(workers, options.rounds)
    measured = {
        name: Measured(
            seconds=[turn.seconds for turn in turns[name]],
            processor_s=[turn.processor_s for turn in turns[name]],
            others_s=[turn.others_s for turn in turns[name]],
            error=_relative(turns[name][-1].result, answer),
            threads=worker.ready.threads,
            phases=worker.ready.phases,
            peak_bytes=worker.close(),
        )
        for name, worker in workers.items()
    }
    machine = describe_machine()
    entry = record(
        "starter",
        measured,
        steps=options.steps,
        side=int(answer.shape[0]),
        ratios=ratios(measured, OURS),
        machine=machine,
        versions=versions(("numpy", "openvino", "torch", "diffusers")),
    )
    print(f"\n{options.steps} guided steps, {answer.shape[1]} x {answer.shape[0]} px")
    print(f"{machine['processor']}, {machine['cores']} cores, load average {machine['load_average']}")
    print(times(measured))
    seconds = measured[OURS].median
    print(f"{OURS}: {seconds:.3f} s, goal {GOAL_S:g} s: {'met' if seconds < GOAL_S else 'MISSED'}")
    if not options.quick:
        append(options.results, entry)


def _reference(steps: int, noise: Any) -> Any:
    return diffusers_picture("f32", steps, noise).evaluate()


def _relative(result: Any, answer: Any) -> float:
    difference = np.asarray(result, np.float64) - np.asarray(answer, np.float64)
    return float(np.linalg.norm(difference) / np.linalg.norm(np.asarray(answer, np.float64)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="to try the script itself; nothing is recorded")
    parser.add_argument("--rounds", type=int, default=9, help="pictures of each that count (default 9)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file that gets a line of JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
