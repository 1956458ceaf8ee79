"""Decodes the EXIF user comment of a picture, in all forms that programs write.

Its first eight bytes name the encoding (Exif 2.32, section 4.6.5): "UNICODE" and a zero byte, "ASCII" with
three, "JIS" with five, or eight zeros. Unicode means UTF-16, whose byte order is that of the file by one
reading of the standard and big-endian by another. Programs follow both; some write UTF-8 with any of these
prefixes, and some write no prefix. If the prefix does not decide, the bytes do.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any

USER_COMMENT = 0x9286
EXIF_FOLDER = 0x8769

MARK_BYTES = 8
UNICODE, ASCII, JIS, UNDEFINED = b"UNICODE\0", b"ASCII\0\0\0", b"JIS\0\0\0\0\0", bytes(8)
SURELY_UTF_8 = 16
"""At least this many bytes of printable UTF-8 are taken for UTF-8: as UTF-16 they would be implausible."""

ORDERS = {"<": ("utf-16-le", "utf-16-be"), ">": ("utf-16-be", "utf-16-le")}


def user_comment(exif: Any) -> str:
    """Return the comment in Pillow's EXIF table, from its own directory or the first one, or ""."""
    for table in (exif.get_ifd(EXIF_FOLDER), exif):
        raw = table.get(USER_COMMENT)
        content = _bytes_of(raw)
        if content is not None:
            text = decoded(content, getattr(exif, "endian", None) or ">")
            if text.strip():
                return text
        elif isinstance(raw, str) and raw.strip():
            return raw
    return ""


def decoded(raw: bytes, endian: str = ">") -> str:
    """Decode a user comment. endian: "<" or ">", the file's byte order, used if nothing else decides."""
    mark = raw[:MARK_BYTES].upper()
    known = mark in (UNICODE, ASCII, JIS, UNDEFINED)
    body = raw[MARK_BYTES:] if known else raw
    if mark == JIS:
        for name in ("iso2022_jp", "utf-8", "shift_jis"):
            text = _strict(body.rstrip(b"\0"), name)
            if text is not None:
                return text
    for begin, name in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"\xef\xbb\xbf", "utf-8")):
        if body.startswith(begin):
            return body[len(begin) :].decode(name, "replace").rstrip("\0")
    plain = _strict(body.rstrip(b"\0"), "utf-8")
    printable = plain is not None and not any(map(_is_control, plain))
    if plain is not None and printable and (mark != UNICODE or len(body.rstrip(b"\0")) >= SURELY_UTF_8):
        return plain
    wide = _wide(body, ORDERS[endian])
    if mark == UNICODE or 0 in body.rstrip(b"\0"):
        return wide
    return plain if plain is not None else body.decode("cp1252", "replace").rstrip("\0")


# --- inside -----------------------------------------------------------------------------------------------


def _bytes_of(raw: object) -> bytes | None:
    """Pillow returns bytes, numbers or a string, depending on the entry's type."""
    if isinstance(raw, bytes):
        return raw
    if isinstance(raw, str):  # of the type ASCII, which Pillow takes for Latin-1
        try:
            return raw.encode("latin-1")
        except UnicodeEncodeError:
            return None
    if isinstance(raw, Sequence) and all(isinstance(each, int) and 0 <= each < 256 for each in raw):
        return bytes(raw)
    return None


def _strict(body: bytes, name: str) -> str | None:
    try:
        return body.decode(name)
    except UnicodeDecodeError:
        return None


def _wide(body: bytes, orders: tuple[str, str]) -> str:
    """Decode UTF-16 in the byte order that gives the more plausible text; the first if both are alike."""
    texts = [body[: len(body) // 2 * 2].decode(name, "replace").rstrip("\0") for name in orders]
    return min(texts, key=_implausible)


def _implausible(text: str) -> tuple[int, int, int]:
    """A sort key: the number of characters that texts do not contain, the lack of ASCII letters and digits,
    and the number of blocks of 256 characters: an alphabet has one or two, swapped bytes have many.

    """
    bad = sum(char == "\N{REPLACEMENT CHARACTER}" or _is_control(char) for char in text)
    unknown = sum(unicodedata.category(char) in ("Cn", "Co", "Cs") for char in text)
    return bad + unknown, -sum(char < "\x7f" for char in text), len({ord(char) >> 8 for char in text})


def _is_control(char: str) -> bool:
    return char not in "\t\n\r" and (char < " " or "\x7f" <= char < "\xa0")
