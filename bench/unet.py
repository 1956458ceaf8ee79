"""One evaluation of Stable Diffusion 1.5's UNet: Pochade, diffusers, and OpenVINO from a torch trace.

    python bench/unet.py [--quick] [--contenders pochade-bf16 diffusers-bf16 ...] [--rounds 5]

All contenders run in one run, in turn (A B C A B C ...), on the same inputs and weights; what counts is the
ratio of their medians. The first run makes the weights and the trace, which takes minutes, 14 GB of disk and
10 GB of memory. See bench/README.md.
"""

import argparse
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np
from contenders.fixture import FULL, QUICK, Scale, make_case, make_trace, make_weights, read_case
from contenders.ours import build_phases, pochade
from contenders.peers import diffusers, traced
from measure.machine import describe_machine, versions
from measure.record import Measured, append, noisy, ratio, ratios, record, table
from measure.worker import Contender, Turn, Worker, in_own_process

from pochade.settings import cache_dir

RESULTS = Path(__file__).parent / "results" / "unet.jsonl"
PACKAGES = ("numpy", "openvino", "torch", "diffusers")
WARM_UP = 2
OURS = "pochade-bf16"
TARGETS = {"diffusers-bf16": 0.65, "openvino-trace-bf16": 1.0}
"""What Pochade's median may be at most, of the peer's."""


@dataclass(frozen=True)
class Entry:
    """How a contender starts, and whether it compiles, so that its first start differs from later ones."""

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
USUAL = ("pochade-bf16", "diffusers-bf16", "openvino-trace-bf16")


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
    if not options.quick:
        append(options.results, entry)


def prepare(scale: Scale, folder: Path) -> None:
    """Make what is not there yet (see `contenders.fixture`)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in (("unet", make_weights), ("case.npz", make_case), ("traced", make_trace)):
        if not (folder / name).exists():
            print(f"making {folder / name}; this happens once", flush=True)
            in_own_process(make, scale, folder)


def measure(entries: Mapping[str, Entry], folder: Path, rounds: int) -> dict[str, Measured]:
    """Start every contender twice, without and with compiled graphs on the disk; then let them take turns."""
    compiled = folder / "compiled"
    shutil.rmtree(compiled, ignore_errors=True)
    _, answer = read_case(folder)
    first = {name: _first_start(entry, folder, compiled / name) for name, entry in entries.items() if entry.compiles}
    workers = {
        name: Worker(entry.start, folder, compiled / name, entry.precision) for name, entry in entries.items()
    }
    turns: dict[str, list[Turn]] = {name: [] for name in entries}
    for _ in range(WARM_UP + rounds):
        for name, worker in workers.items():
            turns[name].append(worker.turn())
            print(f"{name}: {turns[name][-1].seconds:.3f} s", flush=True)
    measured = {}
    for name, worker in workers.items():
        counted = turns[name][WARM_UP:]
        others = [turn.others_s for turn in counted if turn.others_s is not None]
        first_phases, first_peak = first.get(name, (None, None))
        measured[name] = Measured(
            seconds=[turn.seconds for turn in counted],
            processor_s=[turn.processor_s for turn in counted],
            others_s=others if len(others) == len(counted) else None,
            error=relative_error(counted[-1].result, answer),
            threads=worker.ready.threads,
            phases=worker.ready.phases,
            peak_bytes=worker.close(),
            first_phases=first_phases,
            first_peak_bytes=first_peak,
        )
    return measured


def relative_error(result: Any, answer: Any) -> float:
    """Frobenius norm of the difference over that of the answer, in f64."""
    difference = np.asarray(result, np.float64) - np.asarray(answer, np.float64)
    return float(np.linalg.norm(difference) / np.linalg.norm(np.asarray(answer, np.float64)))


def report(measured: Mapping[str, Measured], entry: Mapping[str, Any]) -> str:
    """The tables that a person reads."""
    machine = entry["machine"]
    parts = [
        "",
        f"one evaluation of {entry['scale']}, latent {entry['latent']}, context {entry['context']}",
        f"{machine['processor']}, {machine['cores']} cores, load average {machine['load_average']} before; "
        + ", ".join(f"{name} {version}" for name, version in entry["versions"].items()),
        "",
        table([_heading(measured), *(_row(letter, name, measured) for letter, name in _lettered(measured))]),
        "",
        "seconds to get ready (in brackets: without compiled graphs on the disk)",
        table([("", "import", "load", "compile", "peak memory"), *(_ready(*pair) for pair in measured.items())]),
        "Pochade before the first compilation: " + ", ".join(f"{name} {s:.2f} s" for name, s in entry["build"].items()),
        "",
    ]
    for peer, target in TARGETS.items():
        if OURS in measured and peer in measured:
            found = ratio(measured[OURS], measured[peer])
            verdict = "met" if found <= target else "MISSED"
            parts.append(f"{OURS} / {peer}: {found:.3f}, target at most {target}: {verdict}")
    parts.extend(f"{name}: the evaluations differ more than twofold; measure again" for name in noisy(measured))
    return "\n".join(parts)


def _first_start(entry: Entry, folder: Path, compiled: Path) -> tuple[dict[str, float], int]:
    worker = Worker(entry.start, folder, compiled, entry.precision)
    return worker.ready.phases, worker.close()


def _lettered(names: Iterable[str]) -> Iterable[tuple[str, str]]:
    return zip(ascii_uppercase, names, strict=False)


def _heading(measured: Mapping[str, Measured]) -> Sequence[str]:
    return ("", "median s", "min-max", *(f"/{letter}" for letter, _ in _lettered(measured)), "error", "others' load", "threads")


def _row(letter: str, name: str, measured: Mapping[str, Measured]) -> Sequence[str]:
    this = measured[name]
    span = f"{min(this.seconds):.3f}-{max(this.seconds):.3f}"
    others = "?" if this.others_s is None else f"{sum(this.others_s) / sum(this.seconds):.2f} cores"
    against = (f"{ratio(this, peer):.3f}" for peer in measured.values())
    return (f"{letter} {name}", f"{this.median:.3f}", span, *against, f"{this.error:.1e}", others, str(this.threads))


def _ready(name: str, this: Measured) -> Sequence[str]:
    first = {} if this.first_phases is None else this.first_phases
    cells = []
    for phase in ("import", "load", "compile"):
        cell = f"{this.phases[phase]:.2f}" if phase in this.phases else "-"
        cells.append(f"{cell} ({first[phase]:.2f})" if phase in first else cell)
    peak = f"{this.peak_bytes / 1e9:.2f} GB"
    return (name, *cells, peak if this.first_peak_bytes is None else f"{peak} ({this.first_peak_bytes / 1e9:.2f})")


def _commit() -> str:
    """The checkout that was measured; '+' marks one with changes."""
    git = partial(subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True)
    try:
        name = git(["git", "rev-parse", "--short", "HEAD"]).stdout.strip()
        return name + ("+" if git(["git", "status", "--porcelain", "../pochade"]).stdout.strip() else "")
    except OSError:
        return ""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tiny network, to try the script itself; nothing is recorded")
    parser.add_argument("--contenders", nargs="+", choices=ENTRIES, default=USUAL, metavar="NAME", help=", ".join(ENTRIES))
    parser.add_argument("--rounds", type=int, default=5, help="evaluations of each that count (default 5)")
    parser.add_argument("--cache", type=Path, default=cache_dir() / "bench", help="where weights and traces are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file that gets a line of JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
