"""`pochade walk`: interpolates between prompts, and writes an animation."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.cli import draw, draw_options
from pochade.cli.draw_options import mark_of, signer_of
from pochade.cli.pull import offer_missing
from pochade.errors import InvalidRequest, expect

if TYPE_CHECKING:
    from PIL import Image

    from pochade.request import Request

EXAMPLES = """examples:
  pochade walk "a red apple" "a green pear" --seed 7 --frames 16 -o fruit.webp
  pochade walk "a fox" "an owl" "a cat" --seeds 1,2,3 --frames 48 --loop -o animals.gif
  pochade walk "a castle" --seeds 1,2,3,4 --frames 40
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "walk",
        help="draw an interpolation between prompts",
        description=(
            "Interpolate between prompts and between seeds: write a folder of frames and an animation of"
            " them. All other options are those of 'pochade draw'."
        ),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--frames", type=int, default=12, metavar="N", help="default: %(default)s")
    parser.add_argument("--seeds", metavar="N,N", help="one for each prompt, or several for one prompt")
    parser.add_argument("--fps", type=float, default=8.0, metavar="N", help="frames a second (default: 8)")
    parser.add_argument("--loop", action="store_true", help="go back to the first prompt at the end")
    draw.add_request_options(parser, prompts="+")
    draw_options.add_file_options(parser, ".webp or .gif; the folder of frames is created next to it")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Draw all frames, write each when it is done and the animation at the end; print their paths."""
    from tqdm import tqdm

    from pochade.images.animation import check_animation, new_folder, save_animation
    from pochade.images.files import default_name, save_without_overwriting
    from pochade.tools.interpolate import frames

    expect("--fps", options.fps, 0.1, 100.0)
    keyframes = _keyframes(options)
    requests = frames(keyframes, options.frames, loop=options.loop)
    path = options.output
    if path is None:
        path = Path("walk-" + default_name(keyframes[0].prompt, keyframes[0].seed or 0)).with_suffix(".webp")
    check_animation(path)
    offer_missing(options)
    sign = signer_of(options)
    folder = None
    images: list[Image.Image] = []
    texts: list[str] = []
    marks: list[str | None] = []
    with tqdm(total=len(requests), unit="frame", disable=not sys.stderr.isatty(), leave=False) as bar:
        for result in draw.results(options, requests):
            folder = new_folder(path.with_suffix("")) if folder is None else folder
            image, text, mark = result.images[0], result.infotexts[0], mark_of(options, result.mark)
            images.append(image)
            texts.append(text)
            marks.append(mark)
            frame = folder / f"{len(images):03}.png"
            written = save_without_overwriting(image, frame, text, mark=mark, sign=sign)
            bar.clear()
            print(written, flush=True)
            bar.update(1)
    print(save_animation(images, path, 1 / options.fps, texts[0], mark=marks[0], sign=sign), flush=True)
    return 0


def _keyframes(options: argparse.Namespace) -> "list[Request]":
    """One request for each prompt, with its seed."""
    prompts, seeds = list(options.prompt), _seeds(options)
    if len(prompts) == 1:
        prompts *= max(1, len(seeds))
    elif len(seeds) not in (0, len(prompts)):
        raise InvalidRequest(
            f"--seeds names {len(seeds)} seeds for {len(prompts)} prompts; one for each is needed"
        )
    keyframes: list[Request] = []
    for i, prompt in enumerate(prompts):
        own = argparse.Namespace(**{**vars(options), "prompt": prompt})
        if seeds:
            own.seed = seeds[i]
        elif keyframes:
            own.seed = keyframes[0].seed  # chosen at random for the first one, if none was given
        keyframes.append(replace(draw.requests_of(own)[0], batch_size=1))
    return keyframes


def _seeds(options: argparse.Namespace) -> list[int]:
    if options.seeds is None:
        return []
    if options.seed is not None:
        raise InvalidRequest("--seed sets one seed for all prompts, --seeds one for each; use one of them")
    parts = [part.strip() for part in options.seeds.split(",")]
    if not all(part.isdecimal() and len(part) <= 20 for part in parts):
        raise InvalidRequest(f"--seeds {options.seeds}: seeds are whole numbers, as in --seeds 1,2,3")
    return [int(part) for part in parts]
