"""The text that a picture file carries, wherever its kind keeps it."""

import re
from pathlib import Path

from PIL import Image

from pochade.errors import InvalidRequest
from pochade.images.files import EXIF_FOLDER, USER_COMMENT
from pochade.images.marks import ENHANCED, read_mark
from pochade.images.opening import UnreadablePicture, opened

MAX_CHARACTERS = 1_000_000


def read_text(path: Path | str) -> str:
    """The parameters text of a PNG, JPEG or WebP file. Raises InvalidRequest if there is none."""
    try:
        text = text_of(read_content(path))
    except UnreadablePicture as unreadable:
        raise InvalidRequest(f"'{path}' is {unreadable}") from unreadable
    if not text.strip():
        raise tells_nothing(path)
    return text


def tells_nothing(path: Path | str) -> InvalidRequest:
    return InvalidRequest(
        f"'{path}' carries no text of how it was made; editors and messengers often remove it"
    )


def read_content(path: Path | str) -> bytes:
    """A picture file's content. Raises InvalidRequest if the file cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"the picture '{path}' cannot be read: {error.strerror or error}") from error


def text_of(content: bytes) -> str:
    """The parameters text in a picture file's content; empty if there is none. Raises UnreadablePicture."""
    with opened(content) as image:
        if image.format == "PNG":
            image.load()  # text may stand behind the pixels
        text = image.info.get("parameters")
        found = text if isinstance(text, str) else _comment(image)
    return found[:MAX_CHARACTERS]


def mark_of(content: bytes) -> str | None:
    """The mark in a picture file's content (`pochade.images.marks`), if any. Raises UnreadablePicture."""
    with opened(content) as image:
        if image.format == "PNG":
            image.load()
        packet = image.info.get("xmp", image.info.get("XML:com.adobe.xmp", b""))
        return read_mark(packet) if isinstance(packet, bytes | str) else None


def enlarged_text(content: bytes, scale: float, upscaler: str) -> str:
    """What a picture that was made larger tells: the text of the file that it was made of, and how.

    A file without a text gives none: a last line without a prompt would be read as one. scale: of the widths.
    Raises UnreadablePicture.
    """
    text = text_of(content).strip()
    name = re.sub("[,:]", "_", upscaler)
    return f"{text}, Postprocess upscale by: {scale:g}, Postprocess upscaler: {name}" if text else ""


def enlarged_mark(content: bytes, *, by_model: bool) -> str | None:
    """The mark of a picture that was made larger: that of the file that it was made of, as far as it has one.

    One that has none was at most made larger by a model. Raises UnreadablePicture.
    """
    own = mark_of(content)
    return ENHANCED if own is None and by_model else own


def _comment(image: Image.Image) -> str:
    """The EXIF user comment. Unicode is big-endian here, but little-endian writers exist."""
    raw = image.getexif().get_ifd(EXIF_FOLDER).get(USER_COMMENT)
    if isinstance(raw, str):
        return raw
    if not isinstance(raw, bytes):
        return ""
    kind, body = raw[:8], raw[8:]
    if kind == b"UNICODE\0":
        order = "utf-16-le" if body[1:2] == b"\0" else "utf-16-be"
        return body.decode(order, "replace").rstrip("\0")
    return (body if kind in (b"ASCII\0\0\0", bytes(8)) else raw).decode("utf-8", "replace").rstrip("\0")
