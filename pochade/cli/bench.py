"""`pochade bench`: how fast a model is on this computer."""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pochade.cli.draw_options import size_of
from pochade.cli.model_options import add_models_option, add_threads_option
from pochade.cli.pull import offer_missing
from pochade.errors import InvalidRequest, PochadeError
from pochade.speed import SPEEDS

if TYPE_CHECKING:
    from pochade.tools.benchmark import BenchmarkSettings

EXAMPLES = """examples:
  pochade bench
  pochade bench --model sd15.safetensors --size 512x512 --json mine.json
  pochade bench --model sd15.safetensors --precision bf16 --speed exact fast --pictures 1
"""
LOOK_S = 0.02
"""Interval between readings of a process's memory, s."""


@dataclass(frozen=True)
class Measured:
    """The results of one precision. found: output of `tools.benchmark.measure`. own_peak_bytes: peak memory
    without mapped files, None where the system does not report it. start_s: since the start of the process.
    """

    precision: str
    found: Sequence[Mapping[str, Any]]
    own_peak_bytes: int | None

    def one(self, kind: str) -> Mapping[str, Any]:
        return next((each for each in self.found if each["is"] == kind), {})

    @property
    def evaluation_s(self) -> float:
        return float(median(self.one("evaluation")["seconds"]))

    @property
    def share(self) -> float:
        """Share of the ceiling that the evaluation reaches."""
        flops: float = self.one("evaluation")["flop"] / self.evaluation_s
        return flops / float(self.one("ceiling")["flops"])

    def picture_s(self, speed: str) -> float:
        drawn = next(each for each in self.found if each["is"] == "picture" and each["speed"] == speed)
        return float(median(drawn["seconds"]))


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure how fast a model is on this computer",
        description=(
            "Time single evaluations of the UNet and whole pictures in every precision that this computer"
            " supports, and compare them with the computer's peak."
        ),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", metavar="PATH", help="as for 'pochade draw' (default: the starter)")
    add_models_option(parser)
    parser.add_argument(
        "--size", type=size_of, metavar="WxH", help="width and height in pixels (default: the model's own)"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="number of steps (default: the model's own)")
    parser.add_argument(
        "--precision",
        nargs="+",
        metavar="NAME",
        help="precisions to measure (default: all that this computer supports)",
    )
    parser.add_argument(
        "--speed",
        nargs="*",
        choices=SPEEDS,
        default=list(SPEEDS),
        metavar="NAME",
        help=f"{', '.join(SPEEDS)} (default: all of them); with no name, no pictures are drawn",
    )
    parser.add_argument(
        "--pictures", type=int, default=3, metavar="N", help="pictures of each kind (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, gpu, cuda or mps")
    parser.add_argument("--engine", default="auto", metavar="NAME", help="auto, openvino, torch or numpy")
    add_threads_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results to this JSON file")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table; exit status 1 if nothing could be measured."""
    from pochade.images.files import check_folder
    from pochade.loading.engine_choice import PRECISIONS
    from pochade.pipeline.loader import model_path
    from pochade.request import MAX_STEPS
    from pochade.tools.benchmark import BenchmarkSettings

    if not 1 <= options.pictures <= 1000:
        raise InvalidRequest(f"--pictures is {options.pictures}; it must lie between 1 and 1000")
    if options.steps is not None and not 1 <= options.steps <= MAX_STEPS:
        raise InvalidRequest(f"--steps is {options.steps}; it must lie between 1 and {MAX_STEPS}")
    known = [name for name in PRECISIONS if name != "auto"]
    for name in options.precision or ():
        if name not in known:
            raise InvalidRequest(f"precision '{name}' is unknown; one of: {', '.join(known)}")
    if options.json is not None:
        check_folder(options.json)
        if options.json.exists():
            raise InvalidRequest(f"'{options.json}' exists and is not replaced; choose another name")
    offer_missing(options)
    model_path(options.model, options.models)  # raises for a wrong name before measuring
    width, height = (None, None) if options.size is None else options.size
    done = []
    refused: dict[str, str] = {}
    for precision in options.precision or known:
        settings = BenchmarkSettings(
            model=options.model,
            models=options.models,
            device=options.device,
            precision=precision,
            engine=options.engine,
            threads=options.threads,
            steps=options.steps,
            width=width,
            height=height,
            speeds=tuple(options.speed),
            pictures=options.pictures,
        )
        try:
            if precision == "int8":  # fitting grids happens once and is not part of a start
                _measured(replace(settings, only_load=True))
            measured = _measured(settings)
        except MeasurementFailed as failed:  # for example out of memory; other results are kept
            refused[precision] = str(failed)
            continue
        said = measured.one("refused").get("error")
        if said is None:
            done.append(measured)
        else:
            refused[precision] = said
    if not done and len(set(refused.values())) == 1:
        raise InvalidRequest(next(iter(refused.values())))
    for line in _report(done, options.speed):
        print(line)
    for precision, why in refused.items():
        print(f"no {precision}: {why}", file=sys.stdout if done else sys.stderr)
    if options.json is not None and done:
        _write(options.json, done, refused)
        print(options.json)
    return 0 if done else 1


def _measured(settings: "BenchmarkSettings") -> Measured:
    """Measure in a separate process, with its progress on the terminal."""
    from tqdm import tqdm

    from pochade.loading.process_memory import held

    steps = 4 + len(settings.speeds)
    command = [sys.executable, "-m", "pochade.tools.benchmark", json.dumps(asdict(settings))]
    found: list[Mapping[str, Any]] = []
    own = 0
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as process,
        tqdm(total=steps, desc=settings.precision, disable=None, leave=False) as bar,
    ):
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        try:
            for said in _lines(process):
                if said is None:
                    now = held(process.pid)
                    own = own if now is None else max(own, now.own)
                    continue
                found.append(said)
                bar.update(1)
        except BaseException:  # including Ctrl-C
            process.kill()
            raise
    if process.returncode != 0:
        raise MeasurementFailed(
            f"measuring {settings.precision} ended with status {process.returncode}; its output is above"
        )
    return Measured(settings.precision, found, own or None)


class MeasurementFailed(PochadeError):
    """The measuring process ended early."""


def _lines(process: "subprocess.Popen[bytes]") -> Iterator[Mapping[str, Any] | None]:
    """Yield the output lines of a process as they arrive, and None every LOOK_S."""
    assert process.stdout is not None
    rest = b""
    while True:
        over = process.poll() is not None
        rest += process.stdout.read() or b""
        *whole, rest = rest.split(b"\n")
        for line in whole:
            if line.startswith(b'{"is"'):
                yield json.loads(line)
        if over:
            return
        yield None
        time.sleep(LOOK_S)


def _report(done: Sequence[Measured], speeds: Sequence[str]) -> list[str]:
    if not done:
        return []
    size = next((each for each in done[0].found if each["is"] == "picture"), None)
    drawn = "" if size is None else f"pictures: {size['width']}x{size['height']} px, {size['steps']} steps; "
    heading = ["", "evaluation", "of ceiling", "ceiling", *speeds, "load", "first", "memory", "without files"]
    rows = [heading]
    for each in done:
        start, peak = each.one("start"), each.one("memory").get("peak_bytes")
        rows.append(
            [
                each.precision,
                _seconds(each.evaluation_s),
                f"{each.share:.0%}",
                f"{each.one('ceiling')['flops'] / 1e9:.0f} GFLOP/s",
                *(_seconds(each.picture_s(speed)) for speed in speeds),
                _seconds(start["load_s"]),
                _seconds(start["first_s"]),
                "-" if peak is None else f"{peak / 1e9:.2f} GB",
                "-" if each.own_peak_bytes is None else f"{each.own_peak_bytes / 1e9:.2f} GB",
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(heading))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    about = _machine()
    return [
        f"{about['processor']}, {about['cores']} cores",
        f"{drawn}medians, seconds",
        "evaluation: one call of the UNet, as in a step; ceiling: the engine's peak",
        "load: until the model is loaded; first: from then to its first evaluation",
        "",
        *lines,
    ]


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _write(path: Path, done: Sequence[Measured], refused: Mapping[str, str]) -> None:
    from pochade.atomic import replacing

    content = {
        "benchmark": "pochade bench",
        "machine": _machine(),
        "precisions": {
            each.precision: {"found": list(each.found), "own_peak_bytes": each.own_peak_bytes}
            for each in done
        },
        "refused": dict(refused),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")


def _machine() -> dict[str, Any]:
    import pochade
    from pochade.engines.openvino import device_features

    return {
        "processor": device_features().name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "pochade": pochade.__version__,
        "openvino": metadata.version("openvino"),
    }
