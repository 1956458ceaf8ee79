"""JSON lines: one object per line that names a picture file and its caption, as metadata.jsonl does."""

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
    """How many lines are not blank; one, to be listed, if the file cannot be read."""
    try:
        with path.open("rb") as file:
            return sum(not line.isspace() for line in file)
    except OSError:
        return 1


def named_in_lines(path: Path) -> set[str]:
    """The pictures that a file names and has a caption for; there is none if it cannot be read, or is a file
    of something else, such as scores of the pictures."""
    names = set()
    with suppress(OSError), path.open("rb") as file:
        for line in file:
            with suppress(Unusable):
                values = json_object(line)
                caption_in(values)
                names.add(_picture_name(values))
    return names


def line_items(path: Path, settings: ImportSettings, prefix: str = "") -> Iterator[Item]:
    """The pictures that a file of JSON lines names; their paths are seen from its folder, and stay in it.

    prefix: goes before the names, where there are several such files.
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
    """The picture of one line; its name is added to `names`, which are those of the lines before."""
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
