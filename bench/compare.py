"""Compare Pochade with other software: one evaluation of the UNet, and whole pictures from prompt to PNG.

    make bench                                  # the starter and SD 1.5's shapes
    make bench ARGS="--shapes xl --trace"       # expensive cases run on request only
    python bench/compare.py --shapes starter --rounds 5 --pictures 3
    python bench/compare.py --quick             # tests the script

Contenders take turns, each in its own process. Prints tables, draws a bar chart for each, and appends to
bench/results/. See bench/README.md.
"""

import argparse
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from contenders import full_models, trace_int8
from contenders.full_models import Case
from contenders.models import SHAPES, Shapes, fit_grids, make_model, random_model
from measure.ceiling import engine_ceiling, register_ceilings
from measure.machine import describe_machine, versions
from measure.plot import bars
from measure.record import Measured, append, ratios, record
from measure.tables import table, times
from measure.worker import Contender, Worker, in_own_process, take_turns
from pochade.engines.openvino import device_features
from pochade.loading.engine_choice import PRECISIONS
from pochade.settings import cache_dir
from pochade.speed import SPEEDS
from pochade.tools.convert import convert

RESULTS = Path(__file__).parent / "results" / "compare.jsonl"
OURS = "pochade"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """How to start a contender.

    speed: the speed setting, for pictures. compiles: whether its first start differs from later ones.
    """

    start: Callable[[Case, Path, str], Contender]
    precision: str
    speed: str | None = None
    compiles: bool = True


def main() -> None:
    options = _options()
    machine, limits = describe_machine(), _ceilings()
    for name in options.shapes:
        shapes = SHAPES[name]
        case = Case(
            model=make_model(shapes, options.cache),
            side=shapes.side,
            steps=options.steps,
            int8=trace_int8.path_in(options.cache / name) if options.trace_int8 else None,
            trace=options.cache / name / "traced" if options.trace or options.trace_int8 else None,
            file=_single_file(shapes, options.cache)
            if full_models.sd_cpp() and "picture" in options.what
            else None,
        )
        if case.trace is not None and not case.trace.exists():
            print(f"making {case.trace}; this happens once", flush=True)
            in_own_process(full_models.make_trace, case)
        if case.int8 is not None and not case.int8.exists():
            print(f"making {case.int8}; this happens once", flush=True)
            in_own_process(trace_int8.make_trace_int8, case)
        for what in options.what:
            entries = chosen(what, case, options.speeds, options.contenders)
            if any(entry.precision == "int8" for entry in entries.values()):
                in_own_process(fit_grids, case.model)
            rounds = options.rounds if what == "evaluation" else options.pictures
            measured = measure(entries, case, options.cache / name / "compiled", rounds, options.warm_up)
            report(what, shapes, case, measured, entries, limits, machine, options)


def chosen(
    what: str, case: Case, speeds: Sequence[str], wanted: Sequence[str] | None = None
) -> dict[str, Entry]:
    """Return the available contenders by name, limited to `wanted`. Raises SystemExit for unknown names."""
    pictures = what == "picture"
    native = native_precisions()
    entries = {}
    for precision in native:
        if pictures:
            for speed in speeds:
                name = f"pochade-{precision}" + ("" if speed == "exact" else f"-{speed}")
                entries[name] = Entry(start=full_models.pochade_picture, precision=precision, speed=speed)
        else:
            entries[f"pochade-{precision}"] = Entry(start=full_models.pochade_unet, precision=precision)
    theirs = full_models.diffusers_picture if pictures else full_models.diffusers_unet
    traced = full_models.traced_picture if pictures else full_models.traced_unet
    for precision in ("f32", "bf16"):
        if precision in native:
            entries[f"diffusers-{precision}"] = Entry(start=theirs, precision=precision, compiles=False)
            if case.trace is not None:
                entries[f"openvino-trace-{precision}"] = Entry(start=traced, precision=precision)
    if case.int8 is not None:
        entries["openvino-trace-int8"] = Entry(start=traced, precision="int8")
    if pictures and case.file is not None:
        entries["sd.cpp-f16"] = Entry(start=full_models.sd_cpp_picture, precision="f16", compiles=False)
    if wanted is None:
        return entries
    unknown = [name for name in wanted if name not in entries]
    if unknown:
        raise SystemExit(f"there is no contender '{unknown[0]}' here; one of: {', '.join(entries)}")
    return {name: entries[name] for name in wanted}


def native_precisions() -> list[str]:
    """The precisions that are native on this processor, and int8, which works on each."""
    here = (*device_features().precisions, "int8")
    return [name for name in PRECISIONS if name in here]


def measure(
    entries: Mapping[str, Entry], case: Case, compiled: Path, rounds: int, warm_up: int
) -> dict[str, Measured]:
    """Start every contender that compiles twice, without and with cached graphs, then let them take turns."""
    shutil.rmtree(compiled, ignore_errors=True)

    def start(name: str) -> Worker:
        entry = entries[name]
        own = replace(case, speed=entry.speed or "exact")
        return Worker(entry.start, own, compiled / name, entry.precision)

    first = {}
    for name in (name for name, entry in entries.items() if entry.compiles):
        worker = start(name)
        first[name] = (worker.ready.phases, worker.close())
    workers = {name: start(name) for name in entries}
    turns = take_turns(workers, rounds, warm_up)
    pictures = any(entry.speed is not None for entry in entries.values())
    reference = next((turns[name][-1].result for name in ("diffusers-f32",) if name in turns), None)
    measured = {}
    for name, worker in workers.items():
        first_phases, first_peak = first.get(name, (None, None))
        fixed = name.startswith("sd.cpp")  # it says itself how long it took
        # Pictures begin with other noise in each program, so only evaluations can be compared.
        known = reference is not None and not pictures
        measured[name] = Measured(
            seconds=[turn.result if fixed else turn.seconds for turn in turns[name]],
            processor_s=[turn.processor_s for turn in turns[name]],
            others_s=[turn.others_s for turn in turns[name]],
            error=_difference(turns[name][-1].result, reference) if known else None,
            threads=worker.ready.threads,
            phases=worker.ready.phases,
            peak_bytes=worker.close(),
            first_phases=first_phases,
            first_peak_bytes=first_peak,
        )
    return measured


def report(
    what: str,
    shapes: Shapes,
    case: Case,
    measured: Mapping[str, Measured],
    entries: Mapping[str, Entry],
    limits: Mapping[str, Mapping[str, float]],
    machine: Mapping[str, Any],
    options: argparse.Namespace,
) -> None:
    """Print, draw and append the results."""
    about = f"{shapes.name}, {shapes.side} px" + (f", {case.steps} steps" if what == "picture" else "")
    shares = {name: _shares(what, case, measured[name], entries[name], limits) for name in measured}
    print(f"\n{what}: {about}\n{machine['processor']}, {machine['cores']} cores")
    print(times(measured), "\n")
    print(memory_and_starts(measured, shares))
    entry = record(
        "compare",
        measured,
        what=what,
        shapes=shapes.name,
        side=shapes.side,
        steps=case.steps,
        flop=case.flop,
        ceilings=limits,
        of_ceilings=shares,
        ratios={name: ratios(measured, name) for name in measured if name.startswith(OURS)},
        machine=machine,
        versions=versions(("numpy", "openvino", "torch", "diffusers")),
    )
    if options.record:
        append(options.results, entry)
        seconds = {name: each.median for name, each in measured.items()}
        plot = options.results.with_name(f"compare-{shapes.name}-{what}.svg")
        bars(plot, f"{what}: {about}; {machine['processor']}, {machine['cores']} cores", seconds, OURS)
        print(plot)


def memory_and_starts(measured: Mapping[str, Measured], shares: Mapping[str, Mapping[str, float]]) -> str:
    """Seconds from process start to the first result, memory, and fractions of the ceilings."""
    rows = [["", "cold start", "from caches", "peak memory", "of registers", "of the engine's best"]]
    for name, this in measured.items():
        first = this.phases if this.first_phases is None else this.first_phases
        peak = (
            this.peak_bytes if this.first_peak_bytes is None else max(this.peak_bytes, this.first_peak_bytes)
        )
        share = shares[name]
        rows.append(
            [
                name,
                f"{sum(first.values()):.2f} s",
                "-" if this.first_phases is None else f"{sum(this.phases.values()):.2f} s",
                f"{peak / 1e9:.2f} GB",
                *(f"{share[kind]:.0%}" if kind in share else "-" for kind in ("registers", "engine")),
            ]
        )
    return table(rows)


def _shares(
    what: str,
    case: Case,
    measured: Measured,
    entry: Entry,
    limits: Mapping[str, Mapping[str, float]],
) -> dict[str, float]:
    """The fractions of each ceiling that one evaluation reaches; empty for pictures, which do other work."""
    if what != "evaluation":
        return {}
    flops = case.flop / measured.median
    return {
        kind: flops / known[entry.precision] for kind, known in limits.items() if entry.precision in known
    }


def _ceilings() -> dict[str, dict[str, float]]:
    cores = int(describe_machine()["cores"] or 1)
    floats = (name for name in native_precisions() if name != "int8")
    found = {name: in_own_process(engine_ceiling, name) for name in floats}
    limits = {
        "registers": register_ceilings(cores),
        "engine": {name: value for name, value in found.items() if value is not None},
    }
    for kind, known in limits.items():
        print(
            f"ceiling, {kind}: " + ", ".join(f"{name} {value / 1e9:.0f} G/s" for name, value in known.items())
        )
    return limits


def _single_file(shapes: Shapes, folder: Path) -> Path | None:
    """A single file for stable-diffusion.cpp, if it is installed; not for the starter, whose vocabulary does
    not fit."""
    if shapes.unet is None or full_models.sd_cpp() is None:
        return None
    path = folder / shapes.name / "model.safetensors"
    if not path.exists():
        print(f"making {path}; this happens once", flush=True)
        for _ in convert(random_model(shapes), path, shapes.narrow):
            pass
    return path


def _difference(result: Any, reference: Any) -> float:
    difference = np.asarray(result, np.float64) - np.asarray(reference, np.float64)
    return float(np.linalg.norm(difference) / np.linalg.norm(np.asarray(reference, np.float64)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["starter", "sd15"], metavar="NAME",
        help=f"{', '.join(SHAPES)} (default: starter sd15; xl takes 7 GB of disk)")  # fmt: skip
    parser.add_argument("--what", nargs="+", choices=("evaluation", "picture"),
        default=["evaluation", "picture"], metavar="NAME")  # fmt: skip
    parser.add_argument("--contenders", nargs="+", metavar="NAME", help="some of those that there are")
    parser.add_argument("--speeds", nargs="+", choices=SPEEDS, default=["exact"], metavar="NAME",
        help="of Pochade's pictures; exact is what others do (default)")  # fmt: skip
    parser.add_argument("--trace", action="store_true",
        help="OpenVINO from a torch trace too; making it takes minutes and 11 GB")  # fmt: skip
    parser.add_argument("--trace-int8", action="store_true",
        help="the trace with its UNet in int8 too; needs NNCF (pip install nncf), and minutes")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5, help="evaluations that count (default 5)")
    parser.add_argument("--pictures", type=int, default=3, help="pictures that count (default 3)")
    parser.add_argument("--steps", type=int, default=20, help="of a picture (default 20)")
    parser.add_argument("--warm-up", type=int, default=1, help="rounds before (default 1)")
    parser.add_argument("--quick", action="store_true",
        help="the starter alone, one round, pictures of 2 steps; nothing is recorded")  # fmt: skip
    parser.add_argument("--no-record", dest="record", action="store_false", help="only print")
    parser.add_argument("--cache", type=Path, default=cache_dir() / "bench", help="where models are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file that gets lines of JSON")
    options = parser.parse_args()
    if options.quick:
        options.shapes, options.rounds, options.pictures, options.warm_up = ["starter"], 1, 1, 0
        options.steps, options.record = 2, False
    if options.trace_int8 and find_spec("nncf") is None:
        parser.error("--trace-int8 quantizes with NNCF, which is not installed here: pip install nncf")
    return options


if __name__ == "__main__":
    main()
