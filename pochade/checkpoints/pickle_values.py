"""The values in pickles of torch files: names, storages, tensors, parameter tables and numpy arrays.

Nothing here imports or calls what a pickle names (see `pickle_machine`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

STORAGES: Mapping[str, np.dtype[Any] | None] = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "DoubleStorage": np.dtype("<f8"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype(np.bool_),
    "ComplexFloatStorage": np.dtype("<c8"),
    "UntypedStorage": None,  # bytes; the tensor has the dtype
}
STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")

DTYPES: Mapping[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float64": np.dtype("<f8"),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint8": np.dtype("u1"),
    "uint16": np.dtype("<u2"),
    "uint32": np.dtype("<u4"),
    "uint64": np.dtype("<u8"),
    "bool": np.dtype(np.bool_),
    "complex64": np.dtype("<c8"),
}

NUMPY_TYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1")


@dataclass(frozen=True)
class Global:
    """The name of a global in a pickle, which is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, eq=False)
class Opaque:
    """Replaces an object that is not needed and was not built."""

    name: str


@dataclass(frozen=True)
class TensorStorage:
    """A storage in the file. size: in elements of `dtype`, or in bytes if that is None.

    root: its key in the file; offset: the start within that storage, in the same units.
    """

    root: str
    dtype: np.dtype[Any] | None
    size: int
    offset: int = 0


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a storage, checked to lie inside it. offset and strides are in elements."""

    storage: TensorStorage
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class ParameterTable(dict[str, Any]):
    """The content of a torch.nn.ParameterDict."""


@dataclass(eq=False)
class NumpyType:
    """A numpy dtype by its letter and size, such as "f4". order: byte order; "|" if not applicable."""

    code: str
    order: str = "<"


@dataclass(eq=False)
class NumpyArray:
    """A numpy array inside the pickle, in C or Fortran order."""

    shape: tuple[int, ...] = ()
    dtype: NumpyType | None = None
    fortran: bool = False
    data: bytes = b""
