"""Reads GGUF files. Block-quantized tensors are dequantized when they are accessed.

    "GGUF", version (2 or 3), number of tensors, number of metadata pairs
    pairs       key, type, value
    tensors     name, number of dimensions, dimensions (the innermost first), type, offset
    the rest    from the next multiple of `general.alignment` (32), where offsets count from

stable-diffusion.cpp writes whole checkpoints in this format, with the names of a single file. All numbers are
little-endian.
"""

import math
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import ml_dtypes
import numpy as np
import numpy.typing as npt

from pochade.checkpoints.safetensors import TensorFile
from pochade.checkpoints.safetensors_header import Header, TensorEntry
from pochade.errors import InvalidCheckpoint

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

MAGIC = b"GGUF"
MAX_SIDES = 4
MAX_NESTING = 4
NUMBERS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
STRING, LIST = 8, 9


def _plain(dtype: Any) -> Callable[[Bytes], Array]:
    return lambda blocks: blocks.view(dtype)


def _q8_0(blocks: Bytes) -> Array:
    """Dequantize Q8_0: an f16 scale, then 32 8-bit integers."""
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    return (scale * blocks[:, 2:].view(np.int8)).astype(np.float16)


def _q4_0(blocks: Bytes) -> Array:
    """Dequantize Q4_0: as Q8_0 with 4-bit integers minus 8, the first sixteen in the low halves of bytes."""
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    halves = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)
    return (scale * (halves.astype(np.int8) - 8)).astype(np.float16)


@dataclass(frozen=True)
class Kind:
    """A storage type: the numbers and bytes of a block, and the function that dequantizes it."""

    name: str
    numbers: int
    bytes: int
    dtype: Any
    read: Callable[[Bytes], Array]


BF16 = np.dtype(ml_dtypes.bfloat16)
KINDS = {
    0: Kind("F32", 1, 4, np.dtype("<f4"), _plain("<f4")),
    1: Kind("F16", 1, 2, np.dtype("<f2"), _plain("<f2")),
    2: Kind("Q4_0", 32, 18, np.dtype("<f2"), _q4_0),
    8: Kind("Q8_0", 32, 34, np.dtype("<f2"), _q8_0),
    30: Kind("BF16", 1, 2, BF16, _plain(BF16)),
}


@dataclass(frozen=True, eq=False, repr=False)
class BlockFile(TensorFile):
    """A file of tensors; block-quantized ones are dequantized to f16 at each access."""

    kinds: Mapping[str, Kind] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Array:
        entry, kind = self.header.entries[name], self.kinds[name]
        begin = self.header.data_start + entry.begin
        blocks = self.mapped[begin : begin + entry.end - entry.begin].reshape(-1, kind.bytes)
        return kind.read(blocks).reshape(entry.shape)


def read_gguf(path: Path) -> BlockFile:
    """Map a GGUF file. Raises InvalidCheckpoint if it violates the format or uses unsupported block types."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            mapped: Bytes = np.memmap(file, dtype=np.uint8, mode="c")
    except (OSError, ValueError) as error:
        raise InvalidCheckpoint(f"'{path}' cannot be read: {error}") from error
    reader = _Reader(path, mapped, len(MAGIC))
    if reader.number("<I") not in (2, 3):
        reader.refuse("its version is neither 2 nor 3")
    tensors, pairs = reader.number("<Q"), reader.number("<Q")
    values = {}
    for _ in range(pairs):
        key = reader.string()
        values[key] = reader.value(reader.number("<I"))
    listed = [reader.tensor() for _ in range(tensors)]
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
        reader.refuse(f"its alignment is {alignment!r}")
    start = -(-reader.at // alignment) * alignment
    entries: dict[str, TensorEntry] = {}
    for name, entry, _ in listed:
        if start + entry.end > len(mapped) or name in entries:
            reader.refuse(f"its tensor '{name}' occurs twice or lies beyond its end")
        entries[name] = entry
    raw = mapped[: reader.at].tobytes()
    metadata = {key: value for key, value in values.items() if isinstance(value, str)}
    header = Header(path, status.st_size, status.st_mtime_ns, raw, entries, metadata, start)
    return BlockFile(header, mapped, {name: kind for name, _, kind in listed})


@dataclass
class _Reader:
    path: Path
    mapped: Bytes
    at: int

    def take(self, count: int) -> bytes:
        if count > len(self.mapped) - self.at:
            self.refuse("it ends within its header; download it again")
        self.at += count
        return self.mapped[self.at - count : self.at].tobytes()

    def number(self, form: str) -> Any:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return value

    def string(self) -> str:
        return self.take(self.number("<Q")).decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind == STRING:
            return self.string()
        if kind != LIST or depth == MAX_NESTING:
            self.refuse(f"a value in it has the unknown type {kind}")
        inner, count = self.number("<I"), self.number("<Q")
        if inner in NUMBERS:
            return self.take(count * struct.calcsize(NUMBERS[inner]))
        return [self.value(inner, depth + 1) for _ in range(count)]

    def tensor(self) -> tuple[str, TensorEntry, Kind]:
        name, sides = self.string(), self.number("<I")
        if sides > MAX_SIDES:
            self.refuse(f"its tensor '{name}' has {sides} dimensions; at most {MAX_SIDES} are supported")
        shape = tuple(self.number("<Q") for _ in range(sides))[::-1]
        kind, begin = self.number("<I"), self.number("<Q")
        if kind not in KINDS:
            known = ", ".join(each.name for each in KINDS.values())
            self.refuse(f"its tensor '{name}' is stored as ggml type {kind}; supported are {known}")
        stored = KINDS[kind]
        if (shape[-1] if shape else 1) % stored.numbers:
            self.refuse(f"its tensor '{name}' has rows of {shape[-1]} numbers, which are not whole blocks")
        end = begin + math.prod(shape) // stored.numbers * stored.bytes
        return name, TensorEntry(stored.dtype, shape, begin, end), stored

    def refuse(self, why: str) -> NoReturn:
        raise InvalidCheckpoint(f"'{self.path}' is not a GGUF file that can be read: {why}")
