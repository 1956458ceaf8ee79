"""Measure one evaluation of SD 1.5's UNet: Pochade, diffusers, and OpenVINO from a torch trace.

    python bench/unet.py [--quick] [--contenders pochade-bf16 diffusers-bf16 ...] [--rounds 5]

All contenders take turns in one run (A B C A B C ...), on the same inputs and weights; the result is the
ratio of their medians. The first run creates the weights and the trace, which takes minutes, 14 GB of disk
and 10 GB of memory. See bench/README.md.
"""

import argparse
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from contenders.fixture import FULL, QUICK, Scale, make_case, make_trace, make_weights, read_case
from contenders.ours import build_phases, pochade
from contenders.peers import diffusers, traced
from measure.machine import describe_machine, versions
from measure.record import Measured, append, ratios, record
from measure.tables import starts, times, verdicts
from measure.worker import Contender, Worker, in_own_process, take_turns
from pochade.engines.openvino import device_features
from pochade.settings import cache_dir

RESULTS = Path(__file__).parent / "results" / "unet.jsonl"
PACKAGES = ("numpy", "openvino", "torch", "diffusers")
OURS = "pochade-bf16"
TARGETS = {"diffusers-bf16": 0.65, "openvino-trace-bf16": 1.0}
"""What Pochade's median may be at most, of the peer's."""


@dataclass(frozen=True)
class Entry:
    """How to start a contender, and whether it compiles, so that its first start differs from later ones."""

    start: Callable[[Path, Path, str], Contender]
    precision: str
    compiles: bool = True


ENTRIES: Mapping[str, Entry] = {
    "pochade-bf16": Entry(pochade, "bf16"),
    "diffusers-bf16": Entry(diffusers, "bf16", compiles=False),
    "openvino-trace-bf16": Entry(traced, "bf16"),
    "pochade-f32": Entry(pochade, "f32"),
    "diffusers-f32": Entry(diffusers, "f32", compiles=False),
    "openvino-trace-f32": Entry(traced, "f32"),
}
USUAL = ("pochade", "diffusers", "openvino-trace")
"""In the precision that this processor is fastest in."""


def main() -> None:
    options = _options()
    scale = QUICK if options.quick else FULL
    folder = options.cache / scale.name
    prepare(scale, folder)
    machine = describe_machine()
    measured = measure({name: ENTRIES[name] for name in options.contenders}, folder, options.rounds)
    build = in_own_process(build_phases, folder)
    entry = record(
        "unet",
        measured,
        scale=scale.name,
        latent=scale.latent,
        context=scale.context,
        rounds=options.rounds,
        ratios=ratios(measured, OURS) if OURS in measured else {},
        build=build,
        machine=machine,
        versions=versions(PACKAGES),
        commit=_commit(),
    )
    print(report(measured, entry))
    if not options.quick and OURS in measured:
        print("\n".join(verdicts(measured, OURS, TARGETS)))
        append(options.results, entry)


def prepare(scale: Scale, folder: Path) -> None:
    """Create what does not exist yet (see `contenders.fixture`)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in (("unet", make_weights), ("case.npz", make_case), ("traced", make_trace)):
        if not (folder / name).exists():
            print(f"making {folder / name}; this happens once", flush=True)
            in_own_process(make, scale, folder)


def measure(entries: Mapping[str, Entry], folder: Path, rounds: int) -> dict[str, Measured]:
    """Start every contender twice, without and with cached graphs; then let them take turns."""
    compiled = folder / "compiled"
    shutil.rmtree(compiled, ignore_errors=True)

    def start(name: str) -> Worker:
        return Worker(entries[name].start, folder, compiled / name, entries[name].precision)

    first = {}
    for name in (name for name, entry in entries.items() if entry.compiles):
        worker = start(name)
        first[name] = (worker.ready.phases, worker.close())
    workers = {name: start(name) for name in entries}
    turns = take_turns(workers, rounds)
    _, answer = read_case(folder)
    measured = {}
    for name, worker in workers.items():
        first_phases, first_peak = first.get(name, (None, None))
        measured[name] = Measured(
            seconds=[turn.seconds for turn in turns[name]],
            processor_s=[turn.processor_s for turn in turns[name]],
            others_s=[turn.others_s for turn in turns[name]],
            error=relative_error(turns[name][-1].result, answer),
            threads=worker.ready.threads,
            phases=worker.ready.phases,
            peak_bytes=worker.close(),
            first_phases=first_phases,
            first_peak_bytes=first_peak,
        )
    return measured


def relative_error(result: Any, answer: Any) -> float:
    """Frobenius norm of the difference, divided by that of the reference, in f64."""
    difference = np.asarray(result, np.float64) - np.asarray(answer, np.float64)
    return float(np.linalg.norm(difference) / np.linalg.norm(np.asarray(answer, np.float64)))


def report(measured: Mapping[str, Measured], entry: Mapping[str, Any]) -> str:
    """The results as text."""
    machine = entry["machine"]
    return "\n".join(
        [
            "",
            f"one evaluation of {entry['scale']}, latent {entry['latent']}, context {entry['context']}",
            f"{machine['processor']}, {machine['cores']} cores, load average {machine['load_average']}",
            ", ".join(f"{name} {version}" for name, version in entry["versions"].items()),
            "",
            times(measured),
            "",
            "seconds to get ready (in brackets: without compiled graphs on the disk)",
            starts(measured, ("import", "load", "compile")),
            "Pochade before its first compilation: "
            + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in entry["build"].items()),
            "",
        ]
    )


def _commit() -> str:
    """The commit that was measured; '+' marks uncommitted changes."""
    git = partial(subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True)
    try:
        name = git(["git", "rev-parse", "--short", "HEAD"]).stdout.strip()
        return name + ("+" if git(["git", "status", "--porcelain", "../pochade"]).stdout.strip() else "")
    except OSError:
        return ""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="a tiny network, to try the script itself; nothing is recorded"
    )
    usual = [f"{name}-{device_features().best_precision}" for name in USUAL]
    parser.add_argument(
        "--contenders", nargs="+", choices=ENTRIES, default=usual, metavar="NAME", help=", ".join(ENTRIES)
    )
    parser.add_argument("--rounds", type=int, default=5, help="evaluations of each that count (default 5)")
    parser.add_argument(
        "--cache", type=Path, default=cache_dir() / "bench", help="where weights and traces are kept"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file that gets a line of JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
