"""`pochade evaluate`: how well a model follows its prompts."""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.cli.background import in_background
from pochade.cli.model_options import add_threads_option
from pochade.evaluation import MEASURES
from pochade.request import DEFAULTS, Request

if TYPE_CHECKING:
    from pochade.evaluation.draw_samples import MeasureProgress

EXAMPLES = """examples:
  pochade evaluate
  pochade evaluate my-model/ --corpus corpus/ -o my-model-judged/
  pochade evaluate my-model/ --only composed sheet --limit 32

The figures are this project's own: see docs/evaluation.md.
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="measure how well a model follows its prompts",
        description="Draw fixed prompts, score the pictures, and write a report and a contact sheet.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Request(prompt="")
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="a diffusers folder (default: the starter in the package)"
    )
    parser.add_argument(
        "--corpus", type=Path, metavar="FOLDER", help="the training set that some measures compare with"
    )
    parser.add_argument("--steps", type=int, default=DEFAULTS.steps, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--guidance",
        type=float,
        default=DEFAULTS.cfg_scale,
        metavar="SCALE",
        help="how closely to follow the prompt (default: %(default)s)",
    )
    parser.add_argument(
        "--speed",
        default=default.speed,
        metavar="NAME",
        help="exact, balanced or fast (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the first prompt of each set (default: 0)"
    )
    parser.add_argument(
        "--only", nargs="+", choices=MEASURES, default=MEASURES, metavar="MEASURE",
        help=f"some of: {', '.join(MEASURES)}",
    )  # fmt: skip
    parser.add_argument(
        "--style",
        nargs="+",
        default=(),
        metavar="STYLE",
        help='draw only prompts of these styles, such as "3d style"',
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="at most this many prompts of each set, for a quick check"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("evaluation"),
        metavar="FOLDER",
        help="folder for the report and the pictures; earlier ones are replaced (default: %(default)s)",
    )
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, gpu, cuda or mps")
    parser.add_argument("--precision", default="auto", metavar="NAME", help="auto, f32, bf16, f16 or int8")
    parser.add_argument("--engine", default="auto", metavar="NAME", help="auto, openvino, torch or numpy")
    add_threads_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, show the progress, and print the report."""
    from tqdm import tqdm

    from pochade.images.files import check_destination

    report = options.output / "evaluation.md"
    check_destination(report.with_suffix(".png"))  # fails before drawing if it cannot be written
    bars: dict[str, Any] = {}
    for progress in in_background(lambda: _evaluate(options)):
        name = progress.measure
        if name not in bars:
            bars[name] = tqdm(total=progress.total, desc=name, unit="picture", leave=False, disable=None)
        bars[name].update(progress.done - bars[name].n)
    for bar in bars.values():
        bar.close()
    print(report.read_text("utf-8"))
    print(report)
    return 0


def _evaluate(options: argparse.Namespace) -> "Iterator[MeasureProgress]":
    import pochade
    from pochade.evaluation.evaluate import EvaluationOptions, evaluate

    order = EvaluationOptions(
        output=options.output,
        corpus=options.corpus,
        steps=options.steps,
        guidance=options.guidance,
        speed=options.speed,
        seed=options.seed,
        measures=tuple(options.only),
        styles=tuple(options.style),
        limit=options.limit,
        threads=options.threads,
    )
    load = partial(
        pochade.load,
        options.model,
        device=options.device,
        precision=options.precision,
        engine=options.engine,
        threads=options.threads,
    )
    yield from evaluate(order, load)
