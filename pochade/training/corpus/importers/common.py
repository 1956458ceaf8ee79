"""Read and validate the files and captions of a user's pictures."""

import json
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from pochade.images.decode import MAX_BYTES
from pochade.training.corpus.pictures import encoded
from pochade.training.corpus.samples import Item, Sample, Unusable
from pochade.training.corpus.store import CorpusEntry, Split

PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm",
)  # fmt: skip
IMAGE_KEYS = ("file_name", "image", "path")
TEXT_KEYS = ("text", "caption", "prompt")
MAX_CAPTION = 4000
"""In characters: far more than a text encoder reads; anything longer is not a caption."""


@dataclass(frozen=True)
class ImportSettings:
    """Settings of an import. size: of the shorter side, px. held_out: the share of held-out pictures."""

    source: str
    size: int
    held_out: float


def item(
    settings: ImportSettings, name: str, content: Callable[[], bytes], caption: Callable[[], str]
) -> Item:
    """Return an item that reads a picture and its caption when it is made."""
    return Item(name, partial(_sample, settings, name, content, caption))


def bad_item(name: str, reason: str, detail: str = "") -> Item:
    """Return an item for an unusable file, so that it is counted and listed."""

    def refuse() -> Sample:
        raise Unusable(reason, detail)

    return Item(name, refuse)


def _sample(
    settings: ImportSettings, name: str, content: Callable[[], bytes], caption: Callable[[], str]
) -> Sample:
    words = caption()  # first, since it is cheaper
    given = content()
    picture = encoded(given, settings.size)
    entry = CorpusEntry(
        name=name,
        source=settings.source,
        split=split_by_share(given, settings.held_out),
        width=picture.width,
        height=picture.height,
        caption=words,
    )
    return Sample(entry, picture.content, picture.suffix)


def split_by_share(content: bytes, share: float) -> Split:
    """Return the split of a picture from a hash of its bytes, so that copies stay together. share: 0..1."""
    place = int.from_bytes(sha256(content).digest()[:8]) / 2**64
    return "held-out" if place < share else "train"


def file_content(path: Path) -> bytes:
    """Return the bytes of a file. Raises Unusable if it cannot be read or is too large."""
    try:
        if not path.is_file():
            raise (
                Unusable("no such picture", path.name)
                if not path.exists()
                else Unusable("no file", path.name)
            )
        length = path.stat().st_size
        if length > MAX_BYTES:
            raise Unusable("too many bytes", f"{length:,}; the limit is {MAX_BYTES:,}")
        return path.read_bytes()
    except OSError as error:
        raise Unusable("an unreadable file", error.strerror or str(error)) from error


def composed(name: str) -> str:
    """Normalize a file name to NFC. macOS decomposes accented letters in names (NFD), others do not."""
    return unicodedata.normalize("NFC", name)


def pair_key(name: str) -> str:
    """Return the name without its suffix, which a picture and its caption share."""
    return composed(name.removesuffix(Path(name).suffix))


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file named relative to the folder, in any Unicode normalization.

    Raises Unusable if it is not inside the folder.
    """
    forms = (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))
    paths = [_inside(folder, form) for form in dict.fromkeys(forms)]
    return next((path for path in paths if path.exists()), paths[0])


def _inside(folder: Path, name: str) -> Path:
    if "\0" in name:
        raise Unusable("a path outside the folder", repr(name))
    try:
        path = Path(folder, name).resolve()
    except (OSError, RuntimeError) as loop:
        raise Unusable("a broken link", name) from loop
    if not path.is_relative_to(folder.resolve()):
        raise Unusable("a path outside the folder", name)
    return path


def caption_file(path: Path) -> str:
    """Read the caption in a text file; lines are joined."""
    return decoded_caption(file_content(path))


def decoded_caption(content: bytes) -> str:
    """Decode a caption from the bytes of a text file."""
    if len(content) > 4 * MAX_CAPTION:  # bytes of a character in UTF-8, at most
        raise Unusable("an over-long caption", f"{len(content):,} bytes")
    try:
        return plain_caption(content.decode("utf-8-sig"))
    except UnicodeDecodeError as binary:
        raise Unusable("a caption that is not text", f"not UTF-8: {binary.reason}") from binary


def plain_caption(value: object) -> str:
    """Return the caption in one line. Raises Unusable if it is empty, not text, or too long."""
    if value is None:
        raise Unusable("no caption")
    if not isinstance(value, str):
        raise Unusable("a caption that is not text", type(value).__name__)
    strange = next((c for c in value if unicodedata.category(c) in ("Cc", "Cs") and not c.isspace()), None)
    if strange is not None:
        raise Unusable("a caption that is not text", f"it contains the character {ord(strange):#x}")
    caption = " ".join(value.split())
    if not caption:
        raise Unusable("an empty caption")
    if len(caption) > MAX_CAPTION:
        raise Unusable("an over-long caption", f"{len(caption):,} characters; the limit is {MAX_CAPTION:,}")
    return caption


def json_object(line: bytes) -> dict[str, Any]:
    """Parse the JSON object in a line or file. Raises Unusable."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as bad:
        raise Unusable("a bad line of JSON", str(bad)[:200]) from bad
    if not isinstance(value, dict):
        raise Unusable("a bad line of JSON", f"{type(value).__name__}, not an object")
    return value


def caption_in(values: Mapping[str, Any]) -> str:
    """Return the caption among named values. Raises Unusable."""
    key = next((key for key in TEXT_KEYS if values.get(key) is not None), None)
    if key is None:
        raise Unusable("no caption", f"none of {', '.join(TEXT_KEYS)} is among {', '.join(values)[:200]}")
    return plain_caption(values[key])
