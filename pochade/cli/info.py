"""`pochade info`: how a picture was made, as its file tells it."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  pochade info fox.png
  pochade info *.png --json
  pochade draw --like fox.png --seed 8
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "info",
        help="show how pictures were made",
        description="Show the prompt and the parameters that a PNG, JPEG or WebP file carries.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pictures", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for programs")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints what each picture carries; one that carries nothing is named, and the status is then 1."""
    from pochade.errors import InvalidRequest
    from pochade.images.metadata import read_parameters
    from pochade.images.reading import mark_of, read_text

    status = 0
    for path in options.pictures:
        try:
            parameters = read_parameters(read_text(path))
            mark = mark_of(path.read_bytes())
        except InvalidRequest as unreadable:
            print(f"pochade: error: {unreadable}", file=sys.stderr)
            status = 1
            continue
        if options.json:
            print(json.dumps({"file": str(path), "mark": mark, **asdict(parameters)}, ensure_ascii=False))
            continue
        print(f"{path}\n  prompt: {parameters.prompt}")
        if parameters.negative_prompt:
            print(f"  negative prompt: {parameters.negative_prompt}")
        for name, value in parameters.values.items():
            print(f"  {name}: {value}")
        if mark is not None:
            print(f"  digital source type: {mark}")
    return status
