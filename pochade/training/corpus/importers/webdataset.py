"""Webdataset tars: files whose names differ in the end only are one sample: 0001.jpg, 0001.txt or .json."""

import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from pochade.images.decode import MAX_BYTES
from pochade.training.corpus.importers.common import (
    PICTURE_SUFFIXES,
    ImportSettings,
    bad_item,
    caption_in,
    composed,
    decoded_caption,
    item,
    json_object,
)
from pochade.training.corpus.samples import Item, Unusable

Place = tuple[int, int]
"""Where a file's bytes begin in the tar, and how many they are."""


@dataclass
class Members:
    """The files of a tar by key and ending.

    twice: names that were there before.  end: why the tar ended early, or nothing.
    """

    samples: dict[str, dict[str, Place]] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)
    end: str = ""


def tar_members(path: Path) -> Members:
    """Read the headers of a tar; what is damaged ends the list."""
    found = Members()
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isreg() and not member.issparse():
                    _add(found, member)
    except (tarfile.TarError, OSError, EOFError) as broken:
        found.end = str(broken) or type(broken).__name__
    return found


def tar_items(
    path: Path,
    found: Members,
    settings: ImportSettings,
    prefix: str = "",
    beside: Collection[tuple[str, int]] = (),
) -> Iterator[Item]:
    """The samples of a tar, in its order.

    beside: names and lengths of pictures that are used anyway, of which those in the tar are copies.
    """
    for key, files in found.samples.items():
        name = f"{prefix}{path.name}/{key}"
        suffix = next((suffix for suffix in PICTURE_SUFFIXES if suffix in files), None)
        picture = None if suffix is None else files[suffix]
        if picture is not None and (f"{composed(PurePosixPath(key).name)}{suffix}", picture[1]) in beside:
            yield bad_item(name, "a copy of a picture that lies beside the tar")
        elif picture is None:
            yield bad_item(name, "a caption without a picture", f"it has {', '.join(files)}")
        elif ".txt" not in files and ".json" not in files:
            yield bad_item(name, "no caption", f"it has {', '.join(files)}")
        else:
            yield item(settings, name, partial(_content, path, picture), partial(_caption, path, files))
    for key in found.twice:
        yield bad_item(f"{prefix}{path.name}/{key}", "a duplicate name")
    if found.end:
        yield bad_item(prefix + path.name, "a tar that is damaged or compressed", found.end)


def count_items(found: Members) -> int:
    """How many items `tar_items` gives."""
    return len(found.samples) + len(found.twice) + bool(found.end)


def _add(found: Members, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    base, dot, ending = path.name.partition(".")
    if not base:
        return
    files = found.samples.setdefault(composed((path.parent / base).as_posix()), {})
    suffix = dot + ending.lower()
    if suffix in files:
        found.twice.append(member.name)
    else:
        files[suffix] = (member.offset_data, member.size)


def _caption(path: Path, files: dict[str, Place]) -> str:
    if ".txt" in files:
        return decoded_caption(_content(path, files[".txt"]))
    return caption_in(json_object(_content(path, files[".json"])))


def _content(path: Path, place: Place) -> bytes:
    offset, length = place
    if length > MAX_BYTES:
        raise Unusable("too many bytes", f"{length:,}; the limit is {MAX_BYTES:,}")
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)
    except OSError as error:
        raise Unusable("an unreadable file", error.strerror or str(error)) from error
