"""`pochade draw`: from a prompt to a picture file."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.cli.background import in_background
from pochade.cli.terminal import blocks, up
from pochade.errors import InvalidRequest
from pochade.request import MAX_BATCH, Request

if TYPE_CHECKING:
    from PIL import Image

    from pochade.pipeline import Progress

EXAMPLES = """examples:
  pochade draw "a red apple"
  pochade draw "a fox, 3d style" --seed 7 --steps 30 --count 4 -o fox.png
  pochade draw "a castle" --model ~/models/sd15.safetensors --size 512x768 --negative people
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "draw",
        help="draw pictures from a prompt",
        description="Draw pictures from a prompt. Without --model, with the model inside the package.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Request(prompt="")
    parser.add_argument("prompt", help="what to draw; may be empty")
    parser.add_argument("--negative", default="", metavar="TEXT", help="what to keep out of the picture")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="the same seed draws the same picture (default: random)"
    )
    parser.add_argument("--steps", type=int, default=default.steps, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--cfg",
        type=float,
        default=default.cfg_scale,
        metavar="SCALE",
        help="how closely to follow the prompt; 1 = no guidance (default: %(default)s)",
    )
    parser.add_argument("--size", type=_size, metavar="WxH", help="in pixels (default: the model's own)")
    parser.add_argument("--sampler", default=default.sampler, metavar="NAME", help="default: %(default)s")
    parser.add_argument("--schedule", default=default.schedule, metavar="NAME", help="default: %(default)s")
    parser.add_argument("--clip-skip", type=int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--count", type=int, default=1, metavar="N", help="how many pictures, with seeds N, N+1, ..."
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=".png, .jpg or .webp; an existing file is never overwritten: a number is added",
    )
    parser.add_argument(
        "--preview", action="store_true", help="show the picture in the terminal while it is drawn"
    )
    add_model_options(parser)
    parser.set_defaults(run=run)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which model runs where."""
    parser.add_argument(
        "--model",
        metavar="PATH",
        help="a checkpoint's file or a diffusers folder (default: the starter in the package)",
    )
    parser.add_argument("--vae", metavar="PATH", help="an autoencoder in place of the model's own")
    parser.add_argument(
        "--prediction",
        metavar="NAME",
        help="what the model predicts, epsilon or v_prediction (default: what it says of itself)",
    )
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, gpu, cuda or mps")
    parser.add_argument("--precision", default="auto", metavar="NAME", help="auto, f32, bf16 or f16")
    parser.add_argument("--engine", default="auto", metavar="NAME", help="auto, openvino, torch or numpy")
    parser.add_argument("--compile", action="store_true", help="torch: slower to start, then faster")


def run(options: argparse.Namespace) -> int:
    """Draw `--count` pictures one after another; prints each file's path when it is written."""
    from tqdm import tqdm

    from pochade.images.files import check_destination, default_name, save_without_overwriting

    request = _request(options)
    if not 1 <= options.count <= MAX_BATCH * MAX_BATCH:
        raise InvalidRequest(f"--count is {options.count}; it must lie between 1 and {MAX_BATCH * MAX_BATCH}")
    # What cannot be written is found before the work, not after it.
    check_destination(default_name(request.prompt, 0) if options.output is None else options.output)
    shown = 0
    quiet = not sys.stderr.isatty()
    with tqdm(total=options.count * request.steps, unit="step", disable=quiet, leave=False) as bar:
        for progress in in_background(lambda: _draw(options, request)):
            bar.update(1)
            if options.preview and not quiet:
                shown = _show(bar, progress.preview()[0], shown)
            if progress.result is None:
                continue
            result = progress.result
            for image, seed, text in zip(result.images, result.seeds, result.infotexts, strict=True):
                path = options.output
                if path is None:
                    path = Path(default_name(request.prompt, seed))
                written = save_without_overwriting(image, path, text)
                bar.clear()
                print(written, flush=True)
                shown = 0
    return 0


def _draw(options: argparse.Namespace, request: Request) -> "Iterator[Progress]":
    """Everything that takes time: loading, compiling, drawing."""
    import secrets

    import pochade

    pipeline = pochade.load(
        options.model,
        device=options.device,
        precision=options.precision,
        engine=options.engine,
        compiled=options.compile,
        vae=options.vae,
        prediction=options.prediction,
    )
    first = secrets.randbelow(2**32) if request.seed is None else request.seed
    for i in range(options.count):
        yield from pipeline.stream(replace(request, seed=first + i))


def _request(options: argparse.Namespace) -> Request:
    width, height = options.size if options.size is not None else (None, None)
    return Request(
        prompt=options.prompt,
        negative_prompt=options.negative,
        seed=options.seed,
        steps=options.steps,
        cfg_scale=options.cfg,
        width=width,
        height=height,
        sampler=options.sampler,
        schedule=options.schedule,
        clip_skip=options.clip_skip,
    )


def _size(text: str) -> tuple[int, int]:
    """'512x768' -> (512, 768)."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size; write WIDTHxHEIGHT, for example 512x768")
    return int(width), int(height)


def _show(bar: Any, image: "Image.Image", shown: int) -> int:
    """Draw the preview over the last one, above the bar; returns its height in lines."""
    lines = blocks(image)
    bar.clear()
    print(up(shown) + "\n".join(lines), file=sys.stderr, flush=True)
    bar.refresh()
    return len(lines)
