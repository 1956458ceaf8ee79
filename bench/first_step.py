"""From the command line to the first denoising step: a model of SD 1.5's shape in one f32 file of 4 GB.

    python bench/first_step.py [--rounds 3] [--cache FOLDER] [--quick]

The file holds random numbers and is kept in the cache. Each start is a process of its own that is ended after
the first of twenty guided steps at 512x512. "cold" has neither a compiled graph nor the file in memory (where
the system lets us drop it), "second" has both. --quick tries the script itself with the starter.
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

from contenders.models import SHAPES, random_model
from measure.machine import describe_machine, versions
from measure.record import append
from pochade.pipeline.loading.convert import convert
from pochade.settings import cache_dir, starter_folder

RESULTS = Path(__file__).parent / "results" / "first_step.jsonl"
GOALS_S = {"cold": 15.0, "second": 5.0}

START = """
import sys, pochade
pipeline = pochade.load(sys.argv[1], device="cpu")
request = pochade.Request(prompt="a red fox in the snow", seed=1, steps=20)
next(pipeline.stream(request))
print("a step", flush=True)
"""
"""What `pochade draw` does until the first step, without the options that it reads."""


def main() -> None:
    options = _options()
    path = starter_folder() if options.quick else _large_file(options.cache / "sd15-f32.safetensors")
    seconds: dict[str, list[float]] = {"cold": [], "second": []}
    for _ in range(options.rounds):
        compiled = options.cache / "compiled"
        shutil.rmtree(compiled, ignore_errors=True)
        if not options.quick:
            _forget(path)
        for kind in seconds:
            seconds[kind].append(_started(path, compiled))
            print(f"{kind}: {seconds[kind][-1]:.1f} s", flush=True)
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
        "seconds": seconds,
        "peak_bytes": peak,
        "file_bytes": path.stat().st_size,
        "machine": machine,
        "versions": versions(("numpy", "openvino")),
    }
    append(options.results, entry)


def _large_file(path: Path) -> Path:
    """Random numbers in the shapes of SD 1.5, written the first time."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"writing {path} ...")
        for _ in convert(random_model(SHAPES["sd15"]), path):
            pass
    return path


def _started(path: Path, compiled: Path) -> float:
    """Seconds from the start of a process to its first step. It ends once its graphs are on the disk."""
    environment = {**os.environ, "POCHADE_CACHE": str(compiled)}
    began = time.perf_counter()
    command = [sys.executable, "-c", START, str(path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        seconds = time.perf_counter() - began
    if process.returncode or not said:
        raise SystemExit(f"the start ended with status {process.returncode}, and without a step")
    return seconds


def _forget(path: Path) -> None:
    """Ask the system to drop the file from its memory."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
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
