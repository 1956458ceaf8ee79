"""Measure the time from the command line to the first step: SD 1.5's shapes in one f32 file of 4 GB.

    python bench/first_step.py [--precision auto] [--rounds 3] [--cache FOLDER] [--quick]

The file contains random numbers and is kept in the cache. Each start is a process that is ended after the
second of twenty guided steps at 512x512; the second step shows how long the first one takes without starting.
"cold" has neither a cached graph nor the file in memory (where the system allows evicting it), "second" has
both; between them a whole picture is drawn, so that the decoder's graph is cached too. int8: with existing
grids, as in all but a model's very first start. --quick tests the script itself with the starter.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from contenders.models import SHAPES, fit_grids, random_model
from measure.machine import describe_machine, versions
from measure.record import append
from pochade.settings import cache_dir, starter_folder
from pochade.tools.convert import convert

RESULTS = Path(__file__).parent / "results" / "first_step.jsonl"
GOALS_S = {"cold": 10.0, "second": 3.5}

START = """
import sys, pochade
pipeline = pochade.load(sys.argv[1], device="cpu", precision=sys.argv[2])
steps = pipeline.stream(pochade.Request(prompt="a red fox in the snow", seed=1, steps=20))
for _ in range(2):
    next(steps)
    print("a step", flush=True)
"""
"""What `pochade draw` does until the second step, without the options that it reads."""


def main() -> None:
    options = _options()
    path = starter_folder() if options.quick else _large_file(options.cache / "sd15-f32.safetensors")
    if options.precision == "int8" and not options.quick:
        fit_grids(path)
    seconds: dict[str, list[float]] = {"cold": [], "second": []}
    steps: list[float] = []
    for _ in range(options.rounds):
        compiled = options.cache / "compiled"
        shutil.rmtree(compiled, ignore_errors=True)
        if not options.quick:
            _forget(path)
        for kind in seconds:
            first, step = _started(path, compiled, options.precision)
            seconds[kind].append(first)
            steps.append(step)
            print(f"{kind}: {first:.1f} s; the second step alone {step:.1f} s", flush=True)
            if kind == "cold":
                _draw(path, compiled, options.precision)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"peak memory, mapped file included: {peak / 1e9:.1f} GB")
    if options.quick:
        return
    for kind, values in seconds.items():
        verdict = "met" if median(values) < GOALS_S[kind] else "MISSED"
        print(f"{kind}: median {median(values):.1f} s of {len(values)}, goal {GOALS_S[kind]:g} s: {verdict}")
    machine = describe_machine()
    entry = {
        "benchmark": "first_step",
        "precision": options.precision,
        "seconds": seconds,
        "step_s": steps,
        "peak_bytes": peak,
        "file_bytes": path.stat().st_size,
        "machine": machine,
        "versions": versions(("numpy", "openvino")),
    }
    append(options.results, entry)


def _large_file(path: Path) -> Path:
    """Random numbers in the shapes of SD 1.5, written at the first call."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"writing {path} ...")
        for _ in convert(random_model(SHAPES["sd15"]), path):
            pass
    return path


def _started(path: Path, compiled: Path, precision: str) -> tuple[float, float]:
    """Seconds from the start of a process to its first step, and from there to the second. It ends when its
    graphs are on disk."""
    environment = {**os.environ, "POCHADE_CACHE": str(compiled)}
    began = time.perf_counter()
    command = [sys.executable, "-c", START, str(path), precision]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        first = time.perf_counter() - began
        said = said and process.stdout.readline()
        second = time.perf_counter() - began
    if process.returncode or not said:
        raise SystemExit(f"the start ended with status {process.returncode}, and without two steps")
    return first, second - first


def _draw(path: Path, compiled: Path, precision: str) -> None:
    """Draw and decode a picture with two steps."""
    code = START.partition("steps = ")[0] + 'pipeline.txt2img("a red fox in the snow", seed=1, steps=2)'
    environment = {**os.environ, "POCHADE_CACHE": str(compiled)}
    subprocess.run([sys.executable, "-c", code, str(path), precision], env=environment, check=True)


def _forget(path: Path) -> None:
    """Ask the system to evict the file from its page cache."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--precision", default="auto", help="auto (default), f32, bf16, int8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=cache_dir() / "bench")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="the starter, one round; nothing is recorded")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    return options


if __name__ == "__main__":
    main()
