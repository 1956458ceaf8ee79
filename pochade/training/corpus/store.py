"""The training set on disk: tar files of about a thousand pictures with metadata, and an index.

<folder>/manifest.json                sizes, counts, sources and the recipe
<folder>/shards/<source>-000000.tar   webdataset samples: 000000.webp (png, jpg) and 000000.json
<folder>/shards/<source>-000000.json  the index of this shard: entries with their positions, skipped pictures
<folder>/skipped.jsonl                one line for each skipped picture, with the reason
<folder>/NOTICE                       licences and credits
<folder>/contact-sheet.png            some pictures of each style
<folder>/packages/                    unpacked packages; may be deleted once the set is built

The shards are tar files that any reader of webdataset (https://github.com/webdataset/webdataset) reads in
order; with the index, a picture is one seek and one read, without unpacking.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pochade.atomic import replacing
from pochade.errors import InvalidCheckpoint

VERSION = 2

Split = Literal["train", "held-out"]


def split_of(code: str, source: str) -> Split:
    """Return the split of a pair of concept and source; one in sixteen is held out.

    The split is by pair, not by concept or picture: all drawings of a concept in one style are in one split,
    so a held-out pair combines a known concept and a known style that were never seen together.
    """
    held_out = sha256(f"{code} {source}".encode()).digest()[0] % 16 == 0
    return "held-out" if held_out else "train"


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusEntry:
    """A picture and its metadata; unknown values are empty.

    file, row: the shard, and the number of the picture in its source.
    offset, length: of its bytes in the shard.
    name: of the picture in its source.  width, height: in px.
    caption: of imported pictures; those from packages have metadata from which captions are generated.
    code: of the concept: code points in hexadecimal, or the label as a slug.
    mirrorable: whether the label is still true of the mirrored picture.
    translations: of the label into other languages.
    colour: the name of the dominant colour; colour_share: its share of the opaque area (0..1).
    """

    file: str = ""
    row: int = 0
    offset: int = 0
    length: int = 0
    name: str = ""
    source: str
    licence: str = ""
    split: Split = "train"
    width: int = 0
    height: int = 0
    caption: str = ""
    label: str = ""
    tags: tuple[str, ...] = ()
    style: str = ""
    code: str = ""
    emoji: str = ""
    group: str = ""
    subgroup: str = ""
    mirrorable: bool = False
    translations: tuple[str, ...] = ()
    colour: str = ""
    colour_share: float = 0.0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "CorpusEntry":
        lists = {name: tuple(values.get(name, ())) for name in ("tags", "translations")}
        return cls(**{**values, **lists})

    def to_json(self) -> dict[str, Any]:
        """Return the values that are not empty."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value != DEFAULTS[name]}


DEFAULTS: Mapping[str, Any] = {field.name: field.default for field in fields(CorpusEntry)}
assert DEFAULTS["source"] is MISSING  # the only required field


@dataclass(frozen=True)
class Corpus:
    """A training set; pictures are read from the shards on access.

    size: the side of square pictures from packages, the maximum shorter side of imported ones.
    """

    folder: Path
    size: int
    entries: tuple[CorpusEntry, ...]
    manifest: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.entries)

    def picture(self, index: int) -> NDArray[np.uint8]:
        """Return the pixels of entry `index`, straight alpha, (height, width, 4).

        Raises InvalidCheckpoint if the shard is damaged.
        """
        entry = self.entries[index]
        try:
            content = self.content(index)
            if entry.file.endswith(".npy"):
                return np.frombuffer(content, np.uint8).reshape(entry.height, entry.width, 4)
            with Image.open(io.BytesIO(content)) as image:
                return np.asarray(image.convert("RGBA"))  # opaque pictures are stored with three channels
        except (OSError, ValueError, SyntaxError) as damaged:
            raise InvalidCheckpoint(
                f"picture {index} ('{entry.name}') cannot be read from '{self.folder / entry.file}' "
                f"({damaged}); delete the training set and build it again"
            ) from damaged

    def content(self, index: int) -> bytes:
        """Return the stored bytes of entry `index`. Raises OSError."""
        entry = self.entries[index]
        with Path(self.folder, entry.file).open("rb") as shard:
            shard.seek(entry.offset)
            return shard.read(entry.length)


def load(folder: str | Path) -> Corpus:
    """Open a training set. Raises InvalidCheckpoint if it is missing or damaged."""
    folder = Path(folder)
    try:
        manifest = json.loads(Path(folder, "manifest.json").read_text("utf-8"))
        entries = _entries(folder, manifest)
    except FileNotFoundError as absent:
        raise InvalidCheckpoint(
            f"'{folder}' is not a training set: '{absent.filename}' is missing; build it with "
            "'pochade train corpus'"
        ) from absent
    except (ValueError, TypeError, KeyError, AttributeError) as damaged:
        raise InvalidCheckpoint(
            f"the training set '{folder}' is damaged ({damaged}); delete it and build it again"
        ) from damaged
    if len(entries) != manifest.get("count"):
        raise InvalidCheckpoint(
            f"the training set '{folder}' has {len(entries)} entries of {manifest.get('count')}; "
            "delete it and build it again"
        )
    return Corpus(folder, manifest["size"], entries, manifest)


def _entries(folder: Path, manifest: Mapping[str, Any]) -> tuple[CorpusEntry, ...]:
    if manifest["version"] == 1:
        return _entries_of_arrays(folder, manifest["size"])
    if manifest["version"] != VERSION:
        raise ValueError(f"format {manifest['version']} is not {VERSION}")
    entries: list[CorpusEntry] = []
    for shard in manifest["shards"]:
        path = folder / shard["file"]
        if path.stat().st_size != shard["bytes"]:
            raise ValueError(f"'{shard['file']}' has {path.stat().st_size} bytes of {shard['bytes']}")
        index = json.loads(path.with_suffix(".json").read_text("utf-8"))
        entries.extend(CorpusEntry.from_json(values) for values in index["entries"])
    return tuple(entries)


def _entries_of_arrays(folder: Path, size: int) -> tuple[CorpusEntry, ...]:
    """Read the first format: one NumPy array of square pictures per source."""
    lines = Path(folder, "entries.jsonl").read_text("utf-8").splitlines()
    length = size * size * 4
    starts: dict[str, int] = {}
    entries = []
    for values in map(json.loads, lines):
        if values["file"] not in starts:
            array = np.load(folder / values["file"], mmap_mode="r")
            if array.shape[1:] != (size, size, 4) or array.dtype != np.uint8:
                raise ValueError(f"'{values['file']}' holds {array.dtype} of shape {array.shape}")
            starts[values["file"]] = int(array.offset)
        offset = starts[values["file"]] + values["row"] * length
        split = values.get("split", split_of(values["code"], values["source"]))
        place = {"offset": offset, "length": length, "width": size, "height": size, "split": split}
        entries.append(CorpusEntry.from_json({**values, **place}))
    return tuple(entries)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as file:
        file.write(text.encode(errors="backslashreplace"))  # file names may contain lone surrogates
