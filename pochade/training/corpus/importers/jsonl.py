"""JSON lines: one object per line with a picture's file name and caption, as in metadata.jsonl."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from pochade.training.corpus.importers.common import (
    IMAGE_KEYS,
    ImportSettings,
    bad_item,
    caption_in,
    file_content,
    inside,
    item,
    json_object,
)
from pochade.training.corpus.samples import Item, Unusable


def count_lines(path: Path) -> int:
    """Count the lines that are not blank; 1 for an unreadable file, which is listed."""
    try:
        with path.open("rb") as file:
            return sum(not line.isspace() for line in file)
    except OSError:
        return 1


def named_in_lines(path: Path) -> set[str]:
    """Return the names of pictures with captions; empty if the file is unreadable or contains other data."""
    names = set()
    with suppress(OSError), path.open("rb") as file:
        for line in file:
            with suppress(Unusable):
                values = json_object(line)
                caption_in(values)
                names.add(_picture_name(values))
    return names


def line_items(path: Path, settings: ImportSettings, prefix: str = "") -> Iterator[Item]:
    """Yield the pictures that a JSON-lines file names, by paths inside its folder.

    prefix: prepended to the names if there are several such files.
    """
    names: set[str] = set()
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.isspace():
                    yield _line_item(
                        line, f"{prefix}{path.name}:{number}", path.parent, names, settings, prefix
                    )
    except OSError as error:
        yield bad_item(prefix + path.name, "an unreadable file", error.strerror or str(error))


def _line_item(
    line: bytes, where: str, folder: Path, names: set[str], settings: ImportSettings, prefix: str
) -> Item:
    """Return the picture of one line and add its name to `names`, those of the previous lines."""
    try:
        values = json_object(line)
        name = _picture_name(values)
    except Unusable as unusable:
        return bad_item(where, unusable.reason, unusable.detail)
    if name in names:
        return bad_item(where, "a duplicate name", name)
    names.add(name)
    return item(settings, prefix + name, partial(_content, folder, name), partial(caption_in, values))


def _picture_name(values: dict[str, Any]) -> str:
    name = next((values[key] for key in IMAGE_KEYS if isinstance(values.get(key), str) and values[key]), None)
    if name is None:
        raise Unusable(
            "no picture named", f"none of {', '.join(IMAGE_KEYS)} is among {', '.join(values)[:200]}"
        )
    return str(name)


def _content(folder: Path, name: str) -> bytes:
    return file_content(inside(folder, name))
