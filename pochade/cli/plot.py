"""`pochade plot`: a grid of pictures with different settings (X/Y/Z plot)."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.cli import draw, draw_options
from pochade.cli.draw_options import mark_of, signer_of
from pochade.cli.pull import offer_missing

if TYPE_CHECKING:
    from PIL import Image

    from pochade.tools.xyz_grid import Axis

EXAMPLES = """examples:
  pochade plot "a red apple" --seed 7 --x "sampler=Euler,Heun,DPM++ 2M" --y steps=5,10,20
  pochade plot "a fox, 3d style" --seed 7 --x "words=fox,owl,cat" --y "seed=1-4" -o table.png
  pochade plot "a boat" --seed 7 --x cfg=1,4,7 --y "schedule=Karras,Uniform" --z steps=10,20
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "plot",
        help="draw a grid of pictures with different settings",
        description="Draw a table of pictures: --x changes from column to column, --y from row to row, --z "
        "from table to table. All other options are those of 'pochade draw'.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--x", required=True, metavar="NAME=VALUES", help="for example seed=1-4")
    parser.add_argument("--y", metavar="NAME=VALUES")
    parser.add_argument("--z", metavar="NAME=VALUES")
    draw.add_request_options(parser)
    draw_options.add_file_options(parser, ".png, .jpg or .webp")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Draw all pictures, write one file and print its path."""
    import secrets
    from dataclasses import replace

    from tqdm import tqdm

    from pochade.images.files import check_destination, default_name, save_without_overwriting
    from pochade.tools import xyz_grid

    base = draw.requests_of(options)[0]
    base = replace(base, seed=secrets.randbelow(2**32) if base.seed is None else base.seed)
    axes = [None if text is None else xyz_grid.axis(text) for text in (options.z, options.y, options.x)]
    requests = xyz_grid.requests(base, [each for each in axes if each is not None])
    path = options.output or Path("plot-" + default_name(base.prompt, base.seed or 0))
    check_destination(path)
    offer_missing(options)
    sign = signer_of(options)
    images: list[Image.Image] = []
    texts: list[str] = []
    marks: list[str] = []
    with tqdm(total=len(requests), unit="picture", disable=not sys.stderr.isatty(), leave=False) as bar:
        for result in draw.results(options, requests):
            images += result.images[:1]
            texts += result.infotexts[:1]
            marks.append(result.mark)
            bar.update(1)
    page, mark = _page(images, axes), mark_of(options, marks[0])
    print(save_without_overwriting(page, path, texts[0], mark=mark, sign=sign), flush=True)
    return 0


def _page(images: "Sequence[Image.Image]", axes: "Sequence[Axis | None]") -> "Image.Image":
    from pochade.images.sheet import stacked, table

    tables, rows, columns = ([""] if axis is None else _names(axis) for axis in axes)
    size = len(rows) * len(columns)
    pages = []
    for number, name in enumerate(tables):
        labels = [f"{name}, {row}" if name and row else name or row for row in rows]
        pages.append(table(images[number * size : (number + 1) * size], columns, labels))
    return stacked(pages)


def _names(axis: "Axis") -> list[str]:
    """Return the labels of an axis; numbers get the axis' name."""
    numbers = all(value.replace(".", "", 1).isdecimal() for value in axis.values)
    return [f"{axis.name} {value}" if numbers else value for value in axis.values]
