"""Writes picture files with their parameters text, atomically."""

import errno
import io
import os
import re
import struct
import unicodedata
from collections.abc import Callable
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from pochade.atomic import creating, replacing, unwritable
from pochade.errors import InvalidRequest
from pochade.images.exif_text import EXIF_FOLDER, USER_COMMENT
from pochade.images.marks import GENERATED, xmp_packet
from pochade.images.metadata import encodable

if TYPE_CHECKING:
    from PIL import Image

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
QUALITY = 95  # of JPEG and WebP: visually lossless

LONG, UNDEFINED = 4, 7  # types of TIFF entries
JPEG_TEXT_CHARACTERS = 32_000  # one JPEG segment holds 65,533 bytes, and UTF-16 takes two or four for each

SLUG_CHARACTERS = 60

Sign = Callable[[bytes, str, str | None], bytes]
"""(file content, format, mark) -> signed content; see `pochade.images.signing`."""


def picture_format(path: Path | str) -> str:
    """Return the format of a file name, as PIL calls it: "PNG", "JPEG" or "WEBP".

    Raises InvalidRequest for any other suffix.
    """
    suffix = Path(path).suffix
    if suffix.lower() not in FORMATS:
        raise InvalidRequest(f"'{path}' ends in '{suffix}'; a picture's name ends in .png, .jpg or .webp")
    return FORMATS[suffix.lower()]


def check_destination(path: Path | str) -> None:
    """Check the name of a picture before anything is drawn. Creates nothing.

    Raises InvalidRequest for an unknown suffix, OutputError if the folder cannot be created or written to.
    """
    picture_format(path)
    check_folder(path)


def check_folder(path: Path | str) -> None:
    """Raise OutputError unless the folder of a file can be created and written to. Creates nothing."""
    folder = next(parent for parent in Path(path).absolute().parents if parent.exists())
    if not folder.is_dir():
        raise unwritable(Path(path), NotADirectoryError(errno.ENOTDIR, f"'{folder}' is a file"))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise unwritable(Path(path), PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def save_picture(
    image: "Image.Image",
    path: Path | str,
    text: str = "",
    *,
    mark: str | None = GENERATED,
    sign: Sign | None = None,
) -> None:
    """Write a picture with `text` and `mark`; an existing file is replaced.

    Text, mark and signature are as in `encoded`. Missing folders are created. Raises InvalidRequest for an
    unknown suffix or a picture that cannot be encoded, OutputError if the file cannot be written; then no
    partial file is left.
    """
    path = Path(path)
    content = _content(image, path, text, mark, sign)
    _make_folder(path)
    with replacing(path) as file:
        file.write(content)


def save_without_overwriting(
    image: "Image.Image",
    path: Path | str,
    text: str = "",
    *,
    mark: str | None = GENERATED,
    sign: Sign | None = None,
) -> Path:
    """Write a picture as `save_picture` does, under the first free name of fox.png, fox-2.png, fox-3.png ...

    Processes that write at the same time get different names. Returns the used name.
    """
    return write_without_overwriting(_content(image, Path(path), text, mark, sign), path)


def write_without_overwriting(content: bytes, path: Path | str) -> Path:
    """Write a file under the first free name of fox.png, fox-2.png ... and return the used name.

    Raises OutputError, without leaving a partial file.
    """
    path = Path(path)
    _make_folder(path)
    for candidate in chain([path], (path.with_stem(f"{path.stem}-{i}") for i in count(2))):
        if os.path.lexists(candidate):
            continue
        try:
            with creating(candidate) as file:
                file.write(content)
        except FileExistsError:  # created meanwhile by someone else
            continue
        return candidate
    raise AssertionError("there is always another number")


def encoded(
    image: "Image.Image",
    kind: str = "PNG",
    text: str = "",
    *,
    mark: str | None = GENERATED,
    sign: Sign | None = None,
    quality: int = QUALITY,
) -> bytes:
    """Encode a picture file with its metadata.

    kind: "PNG", "JPEG" or "WEBP". quality: of the latter two, 1 to 100.
    text: the parameters text: in PNG the chunk "parameters", in JPEG and WebP the EXIF user comment.
    mark: one of `pochade.images.marks.MARKS`, written as XMP; None omits it.
    sign: signs the file after text and mark have been added.

    Raises InvalidRequest for an unknown mark and for a text that is too long for a JPEG.
    """
    text = encodable(text)
    packet = "" if mark is None else xmp_packet(mark)
    file = io.BytesIO()
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        chunks = PngInfo()
        if text:
            chunks.add_text("parameters", text)  # tEXt where Latin-1 suffices, else iTXt
        if packet:
            chunks.add_itxt("XML:com.adobe.xmp", packet)
        image.save(file, kind, pnginfo=chunks)
    else:
        if kind == "JPEG" and len(text.encode("utf-16-be")) > 2 * JPEG_TEXT_CHARACTERS:
            raise InvalidRequest(
                f"the text has {len(text):,} characters; a JPEG file holds {JPEG_TEXT_CHARACTERS:,},"
                " use .png or .webp"
            )
        comment = exif(text) if text else b""
        from pochade.images.decode import on_white

        transparent = image.has_transparency_data
        # JPEG has no transparency: without a background, hidden colours would become visible.
        shown = image.convert("RGBA") if transparent and kind == "WEBP" else on_white(image)
        shown.save(file, kind, quality=quality, exif=comment, xmp=packet.encode())
    content = file.getvalue()
    return content if sign is None else sign(content, kind, mark)


def default_name(prompt: str, seed: int) -> str:
    """Return a descriptive file name: "a-red-fox-in-the-snow-7.png".

    It consists of lower-case Latin letters and digits, which every system supports; a prompt without any
    gives "picture-7.png".
    """
    plain = unicodedata.normalize("NFKD", prompt[: 10 * SLUG_CHARACTERS]).encode("ascii", "ignore").decode()
    slug = "-".join(re.findall(r"[a-z0-9]+", plain.lower()))
    if len(slug) > SLUG_CHARACTERS:
        words, _, _ = slug[: SLUG_CHARACTERS + 1].rpartition("-")
        slug = words or slug[:SLUG_CHARACTERS]
    return f"{slug or 'picture'}-{seed}.png"


def _content(image: "Image.Image", path: Path, text: str, mark: str | None, sign: Sign | None) -> bytes:
    """Encode the file in memory, so that a full disk can only affect the write."""
    kind = picture_format(path)
    try:
        return encoded(image, kind, text, mark=mark, sign=sign)
    except InvalidRequest as refused:
        raise InvalidRequest(f"'{path}' cannot be made: {refused}") from refused


def exif(text: str) -> bytes:
    """Return an EXIF block with one entry: the user comment, marked as Unicode (Exif 2.32, section 4.6.5).

    PIL would write the comment as a list of numbers, which other programs do not read as text; the standard
    requires type 7, undefined. A TIFF directory is a count, entries of 12 bytes, and a link to the next one.
    """
    comment = b"UNICODE\0" + text.encode("utf-16-be")
    header = struct.pack(">2sHI", b"MM", 42, 8)
    first = struct.pack(">HHHIII", 1, EXIF_FOLDER, LONG, 1, 26, 0)
    second = struct.pack(">HHHIII", 1, USER_COMMENT, UNDEFINED, len(comment), 44, 0)
    return b"Exif\0\0" + header + first + second + comment


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # also FileExistsError, if a file has the name of the folder
        raise unwritable(path, error) from error
