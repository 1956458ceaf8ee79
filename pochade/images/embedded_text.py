"""The text that a picture file carries, wherever its kind keeps it."""

import re
from pathlib import Path

from pochade.errors import InvalidRequest
from pochade.images.decode import UnreadablePicture, opened
from pochade.images.exif_text import user_comment
from pochade.images.marks import ENHANCED, read_mark
from pochade.images.metadata import has_settings
from pochade.images.other_tools import maker_of, retold

MAX_CHARACTERS = 1_000_000
MAX_TABLE_CHARACTERS = 16_000_000
"""Of one text as it stands in the file; longer ones are left out."""
TEXTS_OF_PNG = {"parameters", "prompt", "workflow", "invokeai_metadata", "sd-metadata"}
ELSEWHERE = ("comment", "Comment", "Description", "ImageDescription", "XPComment")
"""Texts of GIF and JPEG files, of PNG files, and of EXIF, where anything may stand: a text counts there if it
has settings."""
EXIF_DESCRIPTION, EXIF_XP_COMMENT = 0x010E, 0x9C9C
EXIF_TEXTS = (0x010E, 0x010F, 0x0110)
"""The description, and the maker and the model of a camera."""


def read_text(path: Path | str) -> str:
    """The parameters text of a PNG, JPEG or WebP file. Raises InvalidRequest if there is none."""
    try:
        content = read_content(path)
        text = text_of(content)
    except UnreadablePicture as unreadable:
        raise InvalidRequest(f"'{path}' is {unreadable}") from unreadable
    if not text.strip():
        raise tells_nothing(path, content)
    return text


def tells_nothing(path: Path | str, content: bytes = b"") -> InvalidRequest:
    """What to say of a picture without a parameters text. content: the file's, which may tell its program."""
    try:
        maker = maker_of(_texts(content)) if content else None
    except UnreadablePicture:
        maker = None
    if maker is not None:
        return InvalidRequest(
            f"'{path}' was made by {maker}, and its text holds no prompt and no settings in a form that is"
            " read here"
        )
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
    """The parameters text in a picture file's content; empty if there is none. Raises UnreadablePicture.

    What SwarmUI, Fooocus, ComfyUI, NovelAI and InvokeAI write in forms of their own is retold in this one.
    """
    texts = _texts(content)
    own = texts.get("parameters", "")
    if own and has_settings(own):  # nodes and extensions add it to a form of the program's own
        return own[:MAX_CHARACTERS]
    told = retold(texts)
    if told is None and maker_of(texts) is None:
        elsewhere = (texts.get(name, "") for name in ELSEWHERE)
        told = own or next((text for text in elsewhere if has_settings(text)), "")
    return (told or "")[:MAX_CHARACTERS]


def _texts(content: bytes) -> dict[str, str]:
    """The texts in a file by their names; an EXIF comment as "parameters". Raises UnreadablePicture."""
    with opened(content) as image:
        if image.format == "PNG":
            image.load()  # text may stand behind the pixels
        texts = {
            name: value
            for name, value in image.info.items()
            if isinstance(name, str) and isinstance(value, str)
        }
        comment = image.info.get("comment")
        if isinstance(comment, bytes):
            texts["comment"] = comment.decode("utf-8", "replace")
        if not texts.keys() & TEXTS_OF_PNG:  # what is damaged in EXIF does not matter where it is not needed
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
