"""Reads and validates the header of a safetensors file.

8 bytes   length N of the header, unsigned, little-endian
N bytes   JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...,
          "__metadata__": {"key": "value", ...}}, padded with spaces at will
the rest  the tensors' numbers, little-endian, in C order; offsets count from here and leave no gaps
"""

import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import ml_dtypes
import numpy as np

from pochade.errors import InvalidCheckpoint

MAX_HEADER_BYTES = 100_000_000
MAX_RANK = 32
MAX_TENSOR_BYTES = 2**62

DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
}

FOREIGN: Mapping[bytes, str] = {
    b"version ": "it is a Git LFS pointer, not the weights; fetch them with 'git lfs pull'",
    b"PK\x03\x04": "it is a pickled PyTorch file or another zip archive; convert it to safetensors",
    b"\x80\x02": "it is a pickled PyTorch file; convert it to safetensors",
    b"<!": "it is a web page, perhaps an error page of the site; download the file again",
    b"<html": "it is a web page, perhaps an error page of the site; download the file again",
}


@dataclass(frozen=True)
class TensorEntry:
    """The location of a tensor: bytes begin..end-1 from the start of the data.

    strides: in bytes, if the tensor is not contiguous in C order (in torch files only).
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int
    strides: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Header:
    """The header of a file, checked against its length, with the file's size and modification time.

    data_start: the position in the file, in bytes, that offsets count from.
    """

    path: Path
    size: int  # bytes
    modified_ns: int
    raw: bytes
    entries: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]
    data_start: int


def parse_header(path: Path, file: BinaryIO) -> Header:
    """Read the header of an open file; `path` is for messages. Raises InvalidCheckpoint if it is invalid."""
    status = os.fstat(file.fileno())
    length = _length(path, file.read(8), status.st_size)
    raw = file.read(length)
    content = _parse(path, raw)
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse(path, "its '__metadata__' is not a table of strings")
    entries = {name: _entry(path, name, spec) for name, spec in content.items()}
    _check_layout(path, entries, status.st_size - 8 - length)
    return Header(path, status.st_size, status.st_mtime_ns, raw, entries, metadata, 8 + length)


def _length(path: Path, beginning: bytes, size: int) -> int:
    if size < 10:
        _refuse(path, f"it has {size} bytes, too few for any header; download it again")
    length = int.from_bytes(beginning, "little")
    if length <= min(size - 8, MAX_HEADER_BYTES):
        return length
    for foreign, advice in FOREIGN.items():
        if beginning.startswith(foreign) and length > MAX_HEADER_BYTES:
            _refuse(path, advice)
    if length > MAX_HEADER_BYTES:
        _refuse(path, f"its header claims {length:,} bytes; at most {MAX_HEADER_BYTES:,} are read")
    _refuse(
        path, f"its header claims {length:,} bytes, the file has {size:,}: it is cut off, download it again"
    )


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            _refuse(path, f"its header names {_short(twice)} twice; one of the two would be lost")
        return table

    if not raw.startswith(b"{"):
        _refuse(path, f"its header begins with {raw[:8]!r} instead of a brace; it has another format")
    try:
        content: dict[str, Any] = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise InvalidCheckpoint(
            f"'{path}' is damaged: its header is not JSON ({_short(str(error))}); download the file again"
        ) from error
    return content


def _entry(path: Path, name: str, spec: object) -> TensorEntry:
    tensor = f"tensor {_short(name)}"
    if not isinstance(spec, dict) or not spec.keys() >= {"dtype", "shape", "data_offsets"}:
        _refuse(path, f"{tensor} needs 'dtype', 'shape' and 'data_offsets'; it has {_short(spec)}")
    kind, shape, offsets = spec["dtype"], spec["shape"], spec["data_offsets"]
    if not isinstance(kind, str) or kind not in DTYPES:
        _refuse(path, f"{tensor} has the unknown type {_short(kind)}; known are {', '.join(DTYPES)}")
    itemsize = DTYPES[kind].itemsize
    if (
        not _are_counts(shape)
        or len(shape) > MAX_RANK
        or math.prod(side for side in shape if side > 0) * itemsize > MAX_TENSOR_BYTES
    ):
        _refuse(path, f"{tensor} has the impossible shape {_short(shape)}")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        _refuse(path, f"{tensor} has the impossible offsets {_short(offsets)}")
    needed, given = math.prod(shape) * itemsize, offsets[1] - offsets[0]
    if needed != given:
        _refuse(path, f"{tensor}, {kind} {shape}, needs {needed:,} bytes, but its offsets span {given:,}")
    return TensorEntry(DTYPES[kind], tuple(shape), offsets[0], offsets[1])


def _check_layout(path: Path, entries: Mapping[str, TensorEntry], available: int) -> None:
    """Check that every byte after the header belongs to exactly one tensor."""
    reached = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        place = f"tensor {_short(name)} lies at {entry.begin:,} to {entry.end:,} of {available:,} bytes"
        if entry.end > available:
            _refuse(path, f"{place}; the file is cut off, download it again")
        if entry.begin != reached:
            fault = "overlaps" if entry.begin < reached else "leaves a gap after"
            _refuse(
                path, f"{place} and {fault} the one before it, which ends at {reached:,}; download it again"
            )
        reached = entry.end
    if reached != available:
        _refuse(path, f"{available - reached:,} bytes follow the last tensor; download it again")


def _are_counts(value: object) -> bool:
    """Whether a value is a list of non-negative integers. (JSON's true is a Python int too.)"""
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _short(value: object) -> str:
    """Escape and shorten a value for a message, since a damaged name may hold anything."""
    text = ascii(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _refuse(path: Path, why: str) -> NoReturn:
    raise InvalidCheckpoint(f"'{path}' is not a valid safetensors file: {why}")
