"""Webdataset tars: files with the same name but for the suffix (0001.jpg, 0001.txt, .json) are a sample."""

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
"""The offset of a file's bytes in the tar, and their number."""


@dataclass
class Members:
    """The files of a tar by key and suffix.

    twice: repeated names.  end: why the tar ended early, or empty.
    """

    samples: dict[str, dict[str, Place]] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)
    end: str = ""


def tar_members(path: Path) -> Members:
    """Read the headers of a tar, up to the first damaged one."""
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
    existing: Collection[tuple[str, int]] = (),
) -> Iterator[Item]:
    """Yield the samples of a tar, in order.

    existing: names and lengths of pictures that are used already; copies of them are skipped.
    """
    for key, files in found.samples.items():
        name = f"{prefix}{path.name}/{key}"
        suffix = next((suffix for suffix in PICTURE_SUFFIXES if suffix in files), None)
        picture = None if suffix is None else files[suffix]
        if picture is not None and (f"{composed(PurePosixPath(key).name)}{suffix}", picture[1]) in existing:
            yield bad_item(name, "a copy of a picture next to the tar")
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
    """Count the items that `tar_items` yields."""
    return len(found.samples) + len(found.twice) + bool(found.end)


def _add(found: Members, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    base, dot, suffix_ = path.name.partition(".")
    if not base:
        return
    files = found.samples.setdefault(composed((path.parent / base).as_posix()), {})
    suffix = dot + suffix_.lower()
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
