"""Measure the cost of a change between two pictures: another size, LoRA or strength, or a longer text.

    python bench/changes.py [--precision int8] [--rounds 3] [--cache FOLDER] [--quick]

SD 1.5's shapes with random weights, in one process that has drawn before, like a server's worker. Each change
is timed up to the first guided step of the next picture; "the same again" is such a step without a change, so
the difference is the cost of the change. The changes follow one another in --rounds pairs of processes: "new"
ones start without cached graphs, "again" ones with those of the process before. --quick tests the script
itself with the starter.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

from contenders.models import SHAPES, fit_grids, make_model
from measure.machine import describe_machine, versions
from measure.record import append
from pochade.settings import cache_dir
from server_life import LONG, SHORT, write_lora

RESULTS = Path(__file__).parent / "results" / "changes.jsonl"
SIDE, OTHER_SIDE = 512, 640
LORAS = ("one", "other")


def main() -> None:
    options = _options()
    if options.draw:
        draw(options.draw, options.precision, options.quick)
        return
    model = make_model(SHAPES["starter" if options.quick else "sd15"], options.cache)
    if options.precision == "int8" and not options.quick:
        fit_grids(model)
    folder = options.cache / "changes"
    for seed, name in enumerate(LORAS):
        write_lora(folder / f"{name}.safetensors", model, seed)
    seconds: dict[str, dict[str, list[float]]] = {"new": defaultdict(list), "again": defaultdict(list)}
    for _ in range(options.rounds):
        shutil.rmtree(folder / "compiled", ignore_errors=True)
        for kind, found in seconds.items():
            for change, value in _in_own_process(model, folder, options).items():
                found[change].append(value)
                print(f"{kind}: {change}: {value:.2f} s", flush=True)
    for kind, found in seconds.items():
        alone = median(found["the same again"])
        for change, values in found.items():
            print(
                f"{kind}: {change}: median {median(values):.2f} s, {median(values) - alone:.2f} s over a step"
            )
    if not options.quick:
        entry = {
            "benchmark": "changes",
            "precision": options.precision,
            "seconds": seconds,
            "machine": describe_machine(),
            "versions": versions(("numpy", "openvino")),
        }
        append(options.results, entry)


def draw(model: Path, precision: str, quick: bool) -> None:
    """Run in a separate process: print seconds to the first step by change, as JSON."""
    import pochade
    from pochade.loading.adapters import Lora

    folder = Path(os.environ["POCHADE_CACHE"]).parent
    side, other = (64, 128) if quick else (SIDE, OTHER_SIDE)
    plain = pochade.load(model, device="cpu", precision=precision, engine="openvino")

    def first_step(prompt: str = SHORT, width: int = side, loras: dict[str, float] | None = None) -> float:
        began = time.perf_counter()
        pipeline = plain
        if loras is not None:
            pipeline = plain.with_adapters(
                [Lora(folder / f"{name}.safetensors", weight) for name, weight in loras.items()]
            )
        steps = pipeline.stream(
            pochade.Request(prompt=prompt, seed=1, steps=2, cfg_scale=7.0, width=width, height=side)
        )
        next(steps)
        seconds = time.perf_counter() - began
        for _ in steps:
            pass
        return seconds

    first_step()
    one, other_lora = LORAS
    found = {
        "the same again": first_step(),
        "more text": first_step(prompt=LONG),
        "another size": first_step(width=other),
        "back to the first size": first_step(),
        "a LoRA": first_step(loras={one: 0.8}),
        "its strength": first_step(loras={one: 0.5}),
        "another LoRA": first_step(loras={other_lora: 0.8}),
        "two LoRAs": first_step(loras={one: 0.5, other_lora: 0.5}),
        "no LoRA again": first_step(),
    }
    print(json.dumps(found))


def _in_own_process(model: Path, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--draw", str(model), "--precision", options.precision]
    environ = {**os.environ, "POCHADE_CACHE": str(folder / "compiled")}
    done = subprocess.run(
        [*command, "--quick"] if options.quick else command, env=environ, stdout=subprocess.PIPE, check=True
    )
    return {str(name): float(value) for name, value in json.loads(done.stdout).items()}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=cache_dir() / "bench")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="the starter, one round; nothing is recorded")
    parser.add_argument("--draw", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    return options


if __name__ == "__main__":
    main()
