"""Pictures in a folder, each with a text file of the same name: cat.jpg, cat.txt."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pochade.training.corpus.importers.common import (
    PICTURE_SUFFIXES,
    ImportSettings,
    bad_item,
    caption_file,
    composed,
    file_content,
    inside,
    item,
    pair_key,
)
from pochade.training.corpus.samples import Item, Unusable

UNSUPPORTED = (".heic", ".heif", ".jxl", ".svg", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw")
"""Suffixes of unsupported picture formats, which are listed, not ignored."""


@dataclass
class Scan:
    """The files in a folder and its subfolders by kind, as paths relative to it.

    refused: names and reasons of files that are not followed or cannot be listed.
    """

    root: Path
    pictures: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    tars: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    def kind(self, name: str) -> list[str]:
        """Return the list for a file according to its suffix."""
        suffix = Path(name).suffix.lower()
        if suffix in PICTURE_SUFFIXES:
            return self.pictures
        kinds = {".txt": self.captions, ".jsonl": self.lines, ".parquet": self.tables, ".tar": self.tars}
        return kinds.get(suffix, self.others)


def scan(root: Path) -> Scan:
    """Scan a folder. Links to folders are not followed; hidden files are ignored."""
    found = Scan(root)

    def unreadable(error: OSError) -> None:
        name = os.path.relpath(str(error.filename), root)
        found.refused.append((name, "an unreadable folder"))

    for place, folders, files in os.walk(root, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in list(folders):
            if Path(place, name).is_symlink():
                folders.remove(name)
                found.refused.append((_relative(root, place, name), "a link to a folder"))
        for name in sorted(name for name in files if not name.startswith(".")):
            relative = _relative(root, place, name)
            if _leaves(root, relative):
                found.refused.append((relative, "a link to outside the folder"))
            else:
                found.kind(name).append(relative)
                if Path(name).suffix.lower() in UNSUPPORTED:
                    found.refused.append((relative, "an unsupported picture format"))
    return found


def folder_items(found: Scan, settings: ImportSettings, named: Collection[str] = ()) -> Iterator[Item]:
    """Yield the pictures of a folder, including unusable ones.

    named: pictures with captions in a list, as paths relative to the folder.
    """
    captions = {pair_key(name): name for name in found.captions}
    owners: dict[str, str] = {pair_key(name): name for name in named}
    said_of = {composed(name) for name in named}
    for name in found.pictures:
        stem = pair_key(name)
        if composed(name) in said_of:
            continue
        if stem not in captions:
            yield bad_item(name, "no caption", f"'{Path(stem).name}.txt' is missing")
        elif stem in owners:
            yield bad_item(name, "a duplicate name", f"'{owners[stem]}' has the same caption file")
        else:
            owners[stem] = name
            yield item(
                settings,
                name,
                partial(_content, found.root, name),
                partial(_caption, found.root, captions[stem]),
            )
    for stem, name in captions.items():
        if stem not in owners:
            yield bad_item(name, "a caption without a picture")


def refused_items(found: Scan) -> Iterator[Item]:
    """Yield the refused files."""
    for name, reason in found.refused:
        yield bad_item(name, reason)


def _content(root: Path, name: str) -> bytes:
    return file_content(inside(root, name))


def _caption(root: Path, name: str) -> str:
    try:
        return caption_file(inside(root, name))
    except Unusable as unusable:
        if unusable.reason == "no such picture":
            raise Unusable("no caption", name) from unusable
        raise


def _leaves(root: Path, name: str) -> bool:
    if not Path(root, name).is_symlink():
        return False
    try:
        inside(root, name)
    except Unusable:
        return True
    return False


def _relative(root: Path, place: str, name: str) -> str:
    return Path(place, name).relative_to(root).as_posix()
