"""The training set on disk: one memory-mappable array per source, one line of JSON per picture.

<folder>/manifest.json            sources, versions, licences, checksums, counts, what was skipped
<folder>/entries.jsonl            one Entry per line
<folder>/pictures-<source>.npy    (N, size, size, 4) uint8, RGBA with straight alpha
<folder>/packages/                unpacked packages; may be deleted once the set is built
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pochade.errors import InvalidCheckpoint

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One picture and what is known about it.

    file, row: where its pixels are.
    colour: the commonest colour's plain name; colour_share: how much of the opaque area has it (0..1).
    mirrorable: whether the flipped picture still is what the label says.
    """

    file: str
    row: int
    label: str
    tags: tuple[str, ...]
    style: str
    source: str
    licence: str
    code: str
    emoji: str
    group: str
    subgroup: str
    mirrorable: bool
    colour: str
    colour_share: float

    @classmethod
    def from_json(cls, line: str) -> "Entry":
        fields = json.loads(line)
        return cls(**{**fields, "tags": tuple(fields["tags"])})


@dataclass(frozen=True)
class Corpus:
    """A built training set; the arrays are memory-mapped and read-only."""

    folder: Path
    size: int
    entries: tuple[Entry, ...]
    arrays: Mapping[str, NDArray[np.uint8]]
    manifest: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.entries)

    def picture(self, index: int) -> NDArray[np.uint8]:
        """The pixels of entry `index`: (size, size, 4), straight alpha."""
        entry = self.entries[index]
        picture: NDArray[np.uint8] = self.arrays[entry.file][entry.row]
        return picture


def load(folder: str | Path) -> Corpus:
    """Open a training set that `build` made. Raises InvalidCheckpoint if it is missing or damaged."""
    folder = Path(folder)
    try:
        manifest = json.loads(Path(folder, "manifest.json").read_text("utf-8"))
        lines = Path(folder, "entries.jsonl").read_text("utf-8").splitlines()
        entries = tuple(map(Entry.from_json, lines))
        arrays = {
            name: np.load(folder / name, mmap_mode="r") for name in sorted({entry.file for entry in entries})
        }
    except FileNotFoundError as absent:
        raise InvalidCheckpoint(
            f"'{folder}' is no training set: '{absent.filename}' is missing; build it with "
            "pochade.training.corpus.build"
        ) from absent
    except (ValueError, TypeError, KeyError) as damaged:
        raise InvalidCheckpoint(
            f"the training set '{folder}' is damaged ({damaged}); delete it and build it anew"
        ) from damaged
    if manifest.get("version") != VERSION or len(entries) != manifest.get("count"):
        raise InvalidCheckpoint(
            f"the training set '{folder}' (format {manifest.get('version')}, {len(entries)} entries of "
            f"{manifest.get('count')}) does not fit this version of Pochade; delete it and build it anew"
        )
    square = (manifest["size"], manifest["size"], 4)
    for entry in entries:
        if arrays[entry.file].shape[1:] != square or entry.row >= len(arrays[entry.file]):
            raise InvalidCheckpoint(
                f"'{folder / entry.file}' has shape {arrays[entry.file].shape}; row {entry.row} of {square} "
                "is expected; delete the folder and build it anew"
            )
    return Corpus(folder, manifest["size"], entries, arrays, manifest)


def write_whole(path: Path, text: str) -> None:
    """Write a text file that is either there as a whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, "utf-8")
    os.replace(partial, path)
