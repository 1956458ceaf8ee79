"""`pochade info`: shows the parameters, mark and signature of picture files."""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pochade.images.metadata import Parameters
    from pochade.images.signing import Signature

EXAMPLES = """examples:
  pochade info fox.png
  pochade info *.png --json
  pochade draw --like fox.png --seed 8
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "info",
        help="show how pictures were made",
        description="Show the prompt and the parameters in a PNG, JPEG or WebP file, its mark and, "
        "with the extra c2pa, who signed it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pictures", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the data of each picture; a picture without any is named, and the exit status is 1."""
    from pochade.errors import InvalidRequest

    status = 0
    for path in options.pictures:
        try:
            info = _inspect(path)
        except InvalidRequest as unreadable:
            print(f"pochade: error: {unreadable}", file=sys.stderr)
            status = 1
            continue
        if options.json:
            print(json.dumps({"file": str(path), **_as_json(info)}, ensure_ascii=False))
            continue
        print(path)
        for line in _lines(info):
            print(f"  {line}")
    return status


@dataclass(frozen=True)
class PictureInfo:
    """The data in a picture file. signature: None if there is none, or without the extra c2pa."""

    parameters: "Parameters"
    mark: str | None
    signature: "Signature | None"


def _inspect(path: Path) -> PictureInfo:
    """Raise InvalidRequest, naming the file, if it has no data or cannot be read."""
    from pochade.errors import InvalidRequest
    from pochade.images.decode import UnreadablePicture
    from pochade.images.embedded_text import mark_of, missing_infotext_message, read_content, text_of
    from pochade.images.metadata import read_parameters
    from pochade.images.signing import signature_of

    content = read_content(path)
    try:
        text, mark, signature = text_of(content), mark_of(content), signature_of(content)
    except UnreadablePicture as unreadable:
        raise InvalidRequest(f"'{path}' is {unreadable}") from unreadable
    if not text.strip() and mark is None and signature is None:
        raise missing_infotext_message(path, content)
    return PictureInfo(read_parameters(text), mark, signature)


def _as_json(info: PictureInfo) -> dict[str, Any]:
    signature = None if info.signature is None else asdict(info.signature)
    return {"mark": info.mark, "signature": signature, **asdict(info.parameters)}


def _lines(info: PictureInfo) -> Iterator[str]:
    parameters, signature = info.parameters, info.signature
    if parameters.prompt or parameters.values:
        yield f"prompt: {parameters.prompt}"
    if parameters.negative_prompt:
        yield f"negative prompt: {parameters.negative_prompt}"
    for name, value in parameters.values.items():
        yield f"{name}: {value}"
    if info.mark is not None:
        yield f"digital source type: {info.mark}"
    if signature is not None:
        by = f", by {signature.signer}" if signature.signer else ""
        yield f"signature: {signature.state.lower()}{by}"
