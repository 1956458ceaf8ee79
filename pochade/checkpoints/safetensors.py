"""The safetensors format: named arrays behind a JSON header, mapped rather than read.

The safetensors package is not used because its numpy interface lacks bfloat16, and because engines need
writeable arrays over a copy-on-write mapping: bytes are read on demand and never held twice.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pochade.atomic import replacing
from pochade.checkpoints.check import count_not_finite
from pochade.checkpoints.safetensors_header import DTYPES, Header, parse_header
from pochade.errors import InvalidCheckpoint, OutputError
from pochade.mapping import map_file

Array = npt.NDArray[Any]

FLOATS = frozenset(DTYPES[kind] for kind in ("F16", "BF16", "F32", "F64"))


@dataclass(frozen=True, eq=False, repr=False)
class TensorFile(Mapping[str, Array]):
    """name -> array. Arrays are views of the mapped file; writes to them never reach the disk.

    Tensors in some files are not aligned to their item size, or not in C order. Numpy can read these, engines
    cannot: `check.FiniteTensors` copies them.
    """

    header: Header
    mapped: Array  # (bytes in the file,) uint8

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata strings of the file."""
        return self.header.metadata

    def __getitem__(self, name: str) -> Array:
        entry = self.header.entries[name]
        offset = self.header.data_start + entry.begin
        return np.ndarray(entry.shape, entry.dtype, self.mapped, offset, entry.strides)

    def __iter__(self) -> Iterator[str]:
        return iter(self.header.entries)

    def __len__(self) -> int:
        return len(self.header.entries)

    def __repr__(self) -> str:
        return f"TensorFile('{self.header.path}', {len(self)} tensors)"


def read(path: Path | str) -> TensorFile:
    """Map a safetensors file. Only the header is read; tensors are paged in when they are used.

    Raises InvalidCheckpoint, naming file, tensor and value, if the file violates the format.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            header = parse_header(path, file)
            return TensorFile(header, map_file(file))
    except FileNotFoundError as error:
        raise InvalidCheckpoint(f"'{path}' does not exist; check the path") from error
    except IsADirectoryError as error:
        raise InvalidCheckpoint(f"'{path}' is a folder; name the safetensors file inside it") from error
    except OSError as error:
        raise InvalidCheckpoint(f"'{path}' cannot be read: {error.strerror or error}") from error


def write(path: Path | str, tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically. Contiguous tensors are not copied.

    Tensors are ordered by item size, largest first, and then by name, so that every tensor is aligned and
    equal tensors always give equal bytes.

    Raises OutputError if the format does not support a tensor's type, or if the file cannot be written.
    """
    for _ in writing(path, tensors, metadata):
        pass


def writing(
    path: Path | str,
    tensors: Mapping[str, Array],
    metadata: Mapping[str, str] | None = None,
    *,
    store_as: np.dtype[Any] | None = None,
) -> Iterator[int]:
    """As `write`, but yield the size of each tensor after it has been written.

    The file appears with the last step; closing the iterator earlier leaves nothing.

    store_as: convert floating point tensors to this type. Raises OutputError, naming the tensor, if its
        numbers are too large for it.
    """
    path = Path(path)
    kinds = {dtype: kind for kind, dtype in DTYPES.items()}
    # Accessed once, since a mapping may create its arrays at each access.
    specs = {name: (_stored_type(tensor, store_as), tensor.shape) for name, tensor in tensors.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    order = sorted(specs, key=lambda name: (-specs[name][0].itemsize, name))
    end = 0
    for name in order:
        dtype, shape = specs[name]
        if dtype not in kinds:
            raise OutputError(f"'{path}' cannot hold tensor '{name}' of type {dtype}; use float32")
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": kinds[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    with replacing(path) as file:
        file.write(len(raw).to_bytes(8, "little"))
        file.write(raw)
        for name in order:
            flat = _cast(path, name, tensors[name], specs[name][0]).reshape(-1)
            yield file.write(flat.view(np.uint8).data)


def _stored_type(tensor: Array, store_as: np.dtype[Any] | None) -> np.dtype[Any]:
    own = tensor.dtype.newbyteorder("<")
    return store_as if store_as is not None and own in FLOATS else own


def _cast(path: Path, name: str, tensor: Array, dtype: np.dtype[Any]) -> Array:
    if tensor.dtype.newbyteorder("<") == dtype:
        return np.ascontiguousarray(tensor, dtype=dtype)
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(tensor, dtype=dtype)
    bad = count_not_finite(cast.reshape(-1))
    if bad:
        raise OutputError(
            f"'{path}' cannot hold tensor '{name}' in {dtype}: {bad:,} of its numbers are too large for it"
            " or not finite; store it as bf16 or f32"
        )
    return cast
