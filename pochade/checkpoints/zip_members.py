"""Locates the members of a zip archive in its file: PKWARE's APPNOTE, sections 4.3.7 to 4.3.16.

torch stores archives uncompressed, so a member is a range of bytes. Nothing is unpacked, and the names in an
archive are only compared, never used as paths.
"""

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from pochade.errors import InvalidCheckpoint

Bytes = npt.NDArray[np.uint8]

END, END64, LOCATOR64, ENTRY, MEMBER = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2", b"PK\3\4"
MAX_COMMENT = 65_535
MAX_DIRECTORY_BYTES = 32_000_000  # of the central directory; the largest checkpoints have one megabyte
FULL = 0xFFFFFFFF
STORED = 0
ENCRYPTED = 1


def zip_members(mapped: Bytes, path: Path) -> Mapping[str, tuple[int, int]]:
    """Return name -> (begin, end) in the file. Raises InvalidCheckpoint for archives that torch does not
    write."""
    try:
        return _members(mapped, path)
    except (struct.error, IndexError, ValueError) as error:
        raise InvalidCheckpoint(f"'{path}' is a damaged zip archive ({error}); download it again") from error


def _members(mapped: Bytes, path: Path) -> Mapping[str, tuple[int, int]]:
    begin, size = _directory(mapped, path)
    if size > MAX_DIRECTORY_BYTES or begin + size > len(mapped):
        _refuse(path, f"its central directory claims {size:,} bytes at {begin:,}; is it cut off?")
    found: dict[str, tuple[int, int]] = {}
    for name, flags, method, packed, unpacked, place in _entries(
        mapped[begin : begin + size].tobytes(), path
    ):
        if method != STORED or packed != unpacked or flags & ENCRYPTED:
            _refuse(
                path, f"its member {ascii(name)[:100]} is compressed or encrypted, which torch never does"
            )
        if name in found:
            _refuse(path, f"it has two members with the name {ascii(name)[:100]}")
        head = mapped[place : place + 30].tobytes()
        if head[:4] != MEMBER:
            _refuse(path, f"its member {ascii(name)[:100]} is not where the central directory states")
        start = place + 30 + sum(struct.unpack_from("<HH", head, 26))
        if start + packed > len(mapped):
            _refuse(path, f"its member {ascii(name)[:100]} ends after the file; download it again")
        found[name] = (start, start + packed)
    return found


def _directory(mapped: Bytes, path: Path) -> tuple[int, int]:
    """Return (begin, bytes) of the central directory."""
    base = max(0, len(mapped) - MAX_COMMENT - 22)
    tail = mapped[base:].tobytes()
    at = tail.rfind(END)
    if at < 0:
        _refuse(path, "it has no central directory; it is cut off, download it again")
    size, begin = struct.unpack_from("<II", tail, at + 12)
    if FULL not in (size, begin) and struct.unpack_from("<H", tail, at + 10)[0] != 0xFFFF:
        return begin, size
    if at < 20 or tail[at - 20 : at - 16] != LOCATOR64:
        return begin, size
    (end64,) = struct.unpack_from("<Q", tail, at - 12)
    record = mapped[end64 : end64 + 56].tobytes()
    if record[:4] != END64:
        _refuse(path, "its central directory is not where its end record states")
    size, begin = struct.unpack_from("<QQ", record, 40)
    return begin, size


def _entries(table: bytes, path: Path) -> Iterator[tuple[str, int, int, int, int, int]]:
    """Yield (name, flags, method, bytes packed, bytes unpacked, offset) of each member."""
    at = 0
    while at < len(table):
        if table[at : at + 4] != ENTRY:
            _refuse(path, "its central directory is damaged; download it again")
        flags, method = struct.unpack_from("<HH", table, at + 8)
        packed, unpacked = struct.unpack_from("<II", table, at + 20)
        name_bytes, extra_bytes, comment_bytes = struct.unpack_from("<HHH", table, at + 28)
        (place,) = struct.unpack_from("<I", table, at + 42)
        name_at = at + 46
        name = table[name_at : name_at + name_bytes].decode("utf-8")
        extra = table[name_at + name_bytes : name_at + name_bytes + extra_bytes]
        unpacked, packed, place = _large(extra, (unpacked, packed, place))
        yield name, flags, method, packed, unpacked, place
        at = name_at + name_bytes + extra_bytes + comment_bytes


def _large(extra: bytes, values: tuple[int, int, int]) -> tuple[int, int, int]:
    """The values, read from the zip64 field if they do not fit into 32 bits."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{size // 8}Q", extra, at + 4))
            unpacked, packed, place = (next(wide, value) if value == FULL else value for value in values)
            return unpacked, packed, place
        at += 4 + size
    return values


def _refuse(path: Path, why: str) -> NoReturn:
    raise InvalidCheckpoint(f"'{path}' is not a readable torch file: {why}")
