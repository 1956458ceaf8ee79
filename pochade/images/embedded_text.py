"""Reads the parameters text that a picture file contains, in any format."""

import re
from pathlib import Path

from pochade.errors import InvalidRequest
from pochade.images.decode import UnreadablePicture, open_undecoded
from pochade.images.exif_text import user_comment
from pochade.images.marks import ENHANCED, read_mark
from pochade.images.metadata import has_settings
from pochade.images.other_tools import program_of, to_infotext

MAX_CHARACTERS = 1_000_000
MAX_TABLE_CHARACTERS = 16_000_000
"""The largest stored text that is read; larger ones are ignored."""
TEXTS_OF_PNG = {"parameters", "prompt", "workflow", "invokeai_metadata", "sd-metadata"}
ELSEWHERE = ("comment", "Comment", "Description", "ImageDescription", "XPComment")
"""Free-form texts of GIF, JPEG, PNG and EXIF, which are only read if they contain settings."""
EXIF_DESCRIPTION, EXIF_XP_COMMENT = 0x010E, 0x9C9C
EXIF_TEXTS = (0x010E, 0x010F, 0x0110)
"""EXIF tags of the description and of a camera's make and model."""


def read_text(path: Path | str) -> str:
    """Read the parameters text of a PNG, JPEG or WebP file. Raises InvalidRequest if it has none."""
    try:
        content = read_content(path)
        text = text_of(content)
    except UnreadablePicture as unreadable:
        raise InvalidRequest(f"'{path}' is {unreadable}") from unreadable
    if not text.strip():
        raise missing_infotext_message(path, content)
    return text


def missing_infotext_message(path: Path | str, content: bytes = b"") -> InvalidRequest:
    """Return a message about a picture without a parameters text, naming its program if `content` tells
    it."""
    try:
        program = program_of(_texts(content)) if content else None
    except UnreadablePicture:
        program = None
    if program is not None:
        return InvalidRequest(
            f"'{path}' was made by {program}, and its text contains no prompt and no settings in a supported"
            " format"
        )
    return InvalidRequest(f"'{path}' contains no parameters text; editors and messengers often remove it")


def read_content(path: Path | str) -> bytes:
    """Read a picture file's bytes. Raises InvalidRequest if the file cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"the picture '{path}' cannot be read: {error.strerror or error}") from error


def text_of(content: bytes) -> str:
    """Return the parameters text in a picture file's content, or "". Raises UnreadablePicture.

    The formats of SwarmUI, Fooocus, ComfyUI, NovelAI and InvokeAI are converted.
    """
    texts = _texts(content)
    own = texts.get("parameters", "")
    if own and has_settings(own):  # nodes and extensions add it to the program's own format
        return own[:MAX_CHARACTERS]
    told = to_infotext(texts)
    if told is None and program_of(texts) is None:
        elsewhere = (texts.get(name, "") for name in ELSEWHERE)
        told = own or next((text for text in elsewhere if has_settings(text)), "")
    return (told or "")[:MAX_CHARACTERS]


def _texts(content: bytes) -> dict[str, str]:
    """The texts in a file, by name; an EXIF comment is "parameters". Raises UnreadablePicture."""
    with open_undecoded(content) as image:
        if image.format == "PNG":
            image.load()  # text may follow the pixels
        texts = {
            name: value
            for name, value in image.info.items()
            if isinstance(name, str) and isinstance(value, str)
        }
        comment = image.info.get("comment")
        if isinstance(comment, bytes):
            texts["comment"] = comment.decode("utf-8", "replace")
        if not texts.keys() & TEXTS_OF_PNG:  # damaged EXIF data are ignored
            exif = image.getexif()
            texts["parameters"] = user_comment(exif)
            for tag in EXIF_TEXTS:  # where ComfyUI's WebP files have "prompt:{...}" and "workflow:{...}"
                name, colon, value = str(exif.get(tag, "")).partition(":")
                if colon and name in ("prompt", "workflow"):
                    texts.setdefault(name, value.rstrip("\0"))
            texts["ImageDescription"] = str(exif.get(EXIF_DESCRIPTION, ""))
            wide = exif.get(EXIF_XP_COMMENT, b"")
            texts["XPComment"] = bytes(wide).decode("utf-16-le", "replace").rstrip("\0") if wide else ""
    return {name: value for name, value in texts.items() if len(value) <= MAX_TABLE_CHARACTERS}


def mark_of(content: bytes) -> str | None:
    """Return the mark in a picture file's content (`pochade.images.marks`), if any. Raises
    UnreadablePicture."""
    with open_undecoded(content) as image:
        if image.format == "PNG":
            image.load()
        packet = image.info.get("xmp", image.info.get("XML:com.adobe.xmp", b""))
        return read_mark(packet) if isinstance(packet, bytes | str) else None


def enlarged_text(content: bytes, scale: float, upscaler: str) -> str:
    """Return the parameters text for an upscaled picture: that of its source, with scale and upscaler.

    It is "" if the source has no text, since settings without a prompt would be misread. scale: ratio of the
    widths. Raises UnreadablePicture.
    """
    text = text_of(content).strip()
    name = re.sub("[,:]", "_", upscaler)
    return f"{text}, Postprocess upscale by: {scale:g}, Postprocess upscaler: {name}" if text else ""


def enlarged_mark(content: bytes, *, by_model: bool) -> str | None:
    """Return the mark for an upscaled picture: that of its source, if it has one.

    Otherwise it depends on whether a model upscaled it. Raises UnreadablePicture.
    """
    own = mark_of(content)
    return ENHANCED if own is None and by_model else own
