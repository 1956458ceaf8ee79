"""What all kinds of given pictures have in common: reading files and captions that may be anything."""

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
"""In characters: far more than a text encoder reads, so that what is longer is no caption."""


@dataclass(frozen=True)
class ImportSettings:
    """How given pictures are stored. size: of the shorter side in px. held_out: the share that is."""

    source: str
    size: int
    held_out: float


def item(
    settings: ImportSettings, name: str, content: Callable[[], bytes], caption: Callable[[], str]
) -> Item:
    """A picture that is read, with its caption, when its turn comes."""
    return Item(name, partial(_sample, settings, name, content, caption))


def bad_item(name: str, reason: str, detail: str = "") -> Item:
    """Something that is known to be unusable, so that it is counted and listed."""

    def refuse() -> Sample:
        raise Unusable(reason, detail)

    return Item(name, refuse)


def _sample(
    settings: ImportSettings, name: str, content: Callable[[], bytes], caption: Callable[[], str]
) -> Sample:
    words = caption()  # the cheaper one to fail
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
    """Whether a picture is held out: a share (0..1), told by its bytes, so that copies stay together."""
    place = int.from_bytes(sha256(content).digest()[:8]) / 2**64
    return "held-out" if place < share else "train"


def file_content(path: Path) -> bytes:
    """The bytes of a file. Raises Unusable if it cannot be read or is too long."""
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
    """A file's name with accented letters as one character each: macOS takes them apart in names (NFD), and
    other systems do not, so that two files of one name are not written alike."""
    return unicodedata.normalize("NFC", name)


def pair_key(name: str) -> str:
    """What a picture's name and that of its caption have in common: the name without its suffix."""
    return composed(name.removesuffix(Path(name).suffix))


def inside(folder: Path, name: str) -> Path:
    """The file that `name` stands for, seen from the folder; one whose accents are written otherwise if it is
    not there itself. Raises Unusable if it is not inside of the folder."""
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
    """The caption in a text file; several lines become one."""
    return decoded_caption(file_content(path))


def decoded_caption(content: bytes) -> str:
    """A caption from the bytes of a text file."""
    if len(content) > 4 * MAX_CAPTION:  # bytes of a character in UTF-8, at most
        raise Unusable("an over-long caption", f"{len(content):,} bytes")
    try:
        return plain_caption(content.decode("utf-8-sig"))
    except UnicodeDecodeError as binary:
        raise Unusable("a caption that is not text", f"not UTF-8: {binary.reason}") from binary


def plain_caption(value: object) -> str:
    """The caption in one line. Raises Unusable if there is none, or it is no text, or too long."""
    if value is None:
        raise Unusable("no caption")
    if not isinstance(value, str):
        raise Unusable("a caption that is not text", type(value).__name__)
    strange = next((c for c in value if unicodedata.category(c) in ("Cc", "Cs") and not c.isspace()), None)
    if strange is not None:
        raise Unusable("a caption that is not text", f"it holds the character {ord(strange):#x}")
    caption = " ".join(value.split())
    if not caption:
        raise Unusable("an empty caption")
    if len(caption) > MAX_CAPTION:
        raise Unusable("an over-long caption", f"{len(caption):,} characters; the limit is {MAX_CAPTION:,}")
    return caption


def json_object(line: bytes) -> dict[str, Any]:
    """The JSON object in a line or file. Raises Unusable."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as bad:
        raise Unusable("a bad line of JSON", str(bad)[:200]) from bad
    if not isinstance(value, dict):
        raise Unusable("a bad line of JSON", f"{type(value).__name__}, not an object")
    return value


def caption_in(values: Mapping[str, Any]) -> str:
    """The caption among named values."""
    key = next((key for key in TEXT_KEYS if values.get(key) is not None), None)
    if key is None:
        raise Unusable("no caption", f"none of {', '.join(TEXT_KEYS)} is among {', '.join(values)[:200]}")
    return plain_caption(values[key])
