"""`pochade models quantize`: fits the grids of 8-bit products by drawing, and shows their errors."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pochade.cli.model_options import add_threads_option
from pochade.errors import InvalidCheckpoint, InvalidRequest, OutputError

WORST = 10
"""The default number of listed products of each network."""


def add_quantize(actions: Any, add_source: Callable[[argparse.ArgumentParser, str], None]) -> None:
    parser = actions.add_parser(
        "quantize",
        help="fit the grids of 8-bit products, for --precision int8",
        description="Draw a few pictures, fit an 8-bit grid to each product's input, and show the errors."
        " `--precision int8` does this automatically the first time. Here you can choose the prompts and"
        " store the grids with the model: int8.safetensors in its folder, NAME.int8.safetensors next to it.",
    )
    add_source(parser, "path")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: in the cache")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="prompts to draw, one per line")
    parser.add_argument(
        "--smoothing",
        type=float,
        metavar="SHARE",
        help=(
            "share of the channels' unevenness that is moved into the weights, 0 to 1 (default: 0.25; 0.5"
            " suits 30 prompts and more)"
        ),
    )
    parser.add_argument("--worst", type=int, default=WORST, metavar="N", help="products shown (%(default)s)")
    add_threads_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    import pochade
    from pochade.images.files import check_folder
    from pochade.loading.int8_networks import grids_in_cache, keep_grids, keep_in_cache
    from pochade.pipeline.calibrate import PROMPTS, calibrate
    from pochade.quantization.fit_grids import SENSITIVE, SMOOTHING, worst

    if options.output is not None:
        _check_output(options.output)
    prompts = PROMPTS[:4] if options.prompts is None else _lines(options.prompts)
    pipeline = pochade.load(
        options.path,
        device="cpu",
        engine="openvino",
        variant=options.variant,
        vae=options.vae,
        config=options.config,
        prediction=options.prediction,
        models=options.models,
        threads=options.threads,
    )
    if options.output is None:
        check_folder(grids_in_cache(pipeline.checkpoint))
    tables = None
    smoothing = SMOOTHING if options.smoothing is None else options.smoothing
    with tqdm(desc="evaluations", leave=False, disable=None) as bar:
        for step in calibrate(pipeline, prompts, smoothing):
            bar.total = step.steps
            bar.update(step.step - bar.n)
            tables = step.tables
    assert tables is not None, "the last step returns them"
    target = options.output
    if target is None:
        target = keep_in_cache(pipeline.checkpoint, tables, pipeline.networks)
    else:
        keep_grids(target, tables, pipeline.networks)
    for part, table in tables.items():
        left = sum(not each.used for each in table.values())
        print(f"{part}: {len(table)} products, {left} of them not quantized (error above {SENSITIVE:.0%})")
        for name, each in worst(table, options.worst):
            print(f"{each.error:8.2%}  {name}{'' if each.used else '  left'}")
    print(target)
    return 0


def _check_output(path: Path) -> None:
    """Check the output path before minutes of work. Raises OutputError."""
    from pochade.checkpoints.grids import are_grids
    from pochade.checkpoints.safetensors import read
    from pochade.images.files import check_folder

    if not path.parent.is_dir():
        raise OutputError(f"the folder '{path.parent}' does not exist; create it or choose another")
    check_folder(path)
    if not path.exists():
        return
    try:
        is_ours = path.is_file() and are_grids(read(path).metadata)
    except InvalidCheckpoint:
        is_ours = False
    if not is_ours:
        raise OutputError(f"'{path}' exists and contains no 8-bit grids; choose another name")


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"--prompts '{path}' cannot be read ({error}); give a text file") from error
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise InvalidRequest(f"--prompts '{path}' contains no prompt; write one per line")
    return found
