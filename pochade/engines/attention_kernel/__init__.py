"""A compiled attention kernel for long token sequences, used if it was built and the processor supports it.

`attention.c` beside this file is optional: without a C compiler at installation, or without the processor
instructions it needs, OpenVINO's own attention is used. docs/decisions/0030-attention-kernel.md gives the
reasons and the measured gain.
"""

import ctypes
import os
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = 4
"""The version of `attention.c`. A library built from another version is not loaded."""

WIDEST = 256
"""Supported head dimensions."""

DISABLED = "POCHADE_NO_KERNEL"
"""Environment variable; if set to any value, the kernel is not used."""

PATHS: Mapping[str, int] = MappingProxyType({"bf16": 1, "bytes": 2, "f32": 8})
"""Bits of `pochade_attention_path`, by how products are computed: in bf16; in bf16 but for queries and keys,
which are multiplied as bytes; in f32."""

F32_WIDE, AMX, INTEL = 4, 16, 32
"""Further bits: f32 in 16 lanes; the processor multiplies bf16 in tiles, which OpenVINO uses and the kernel
does not; it is made by Intel."""

PRODUCTS: Mapping[str, int] = MappingProxyType({"bf16": 0, "bytes": 1, "f32": 2})
NUMBERS: Mapping[str, int] = MappingProxyType({"f32": 0, "bf16": 1})


@dataclass(frozen=True, eq=False)
class Kernel:
    """The loaded library.

    supported: the entries of PATHS that this processor can run. paths: those that are faster than OpenVINO's
    attention on it, which are used. processors: how many processors the process could use when the library
    was loaded; an engine may pin threads later.
    """

    library: Any
    supported: frozenset[str]
    paths: frozenset[str]
    processors: int

    def run(
        self,
        query: int,
        key: int,
        value: int,
        result: int,
        *,
        numbers: str,
        products: str,
        sizes: tuple[int, int, int, int, int],
        threads: int = 0,
        narrow: bool = False,
    ) -> None:
        """Compute attention between memory addresses. sizes: (batch, heads, queries, keys, dim).

        query and result: (batch, queries, heads * dim); key and value: (batch, keys, heads * dim), all in C
        order and of the type `numbers`. products: of PRODUCTS. threads: 0 means one for each processor.
        narrow: use 8 lanes in f32 even where there are 16.

        Raises ValueError if the library does not support these sizes or products.
        """
        batch, heads, _, keys, dim = sizes
        with _scratch(
            self.library.pochade_attention_scratch(PRODUCTS[products], batch, heads, keys, dim)
        ) as scratch:
            status = self.library.pochade_attention(
                query,
                key,
                value,
                result,
                NUMBERS[numbers],
                PRODUCTS[products],
                *sizes,
                scratch.ctypes.data,
                threads or self.processors,
                narrow,
            )
        if status != 0:
            raise ValueError(f"the attention kernel does not support sizes {sizes} here")

    def attention(
        self,
        query: NDArray[Any],
        key: NDArray[Any],
        value: NDArray[Any],
        heads: int,
        *,
        products: str = "bf16",
        threads: int = 0,
        narrow: bool = False,
    ) -> NDArray[Any]:
        """The same from f32 arrays: (B, T, heads * D), (B, S, heads * D) twice -> (B, T, heads * D)."""
        query, key, value = (np.ascontiguousarray(x, np.float32) for x in (query, key, value))
        result = np.empty_like(query)
        batch, queries, width = query.shape
        sizes = (batch, heads, queries, key.shape[1], width // heads)
        places = (x.ctypes.data for x in (query, key, value, result))
        self.run(*places, numbers="f32", products=products, sizes=sizes, threads=threads, narrow=narrow)
        return result


@cache
def load_kernel() -> Kernel | None:
    """Load the kernel. None if it was not built, has another version, is disabled or cannot run here."""
    if os.environ.get(DISABLED):
        return None
    found = built_library()
    if found is None:
        return None
    try:
        library = ctypes.CDLL(str(found))
        if library.pochade_attention_version() != VERSION:
            return None
        bits = library.pochade_attention_path()
    except (OSError, AttributeError):  # for another system, or damaged
        return None
    supported = frozenset(name for name, bit in PATHS.items() if bits & bit)
    if not supported:
        return None
    pointer, size, number = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
    library.pochade_attention_scratch.restype = ctypes.c_size_t
    library.pochade_attention_scratch.argtypes = [number, *[size] * 4]
    library.pochade_attention.argtypes = [
        *[pointer] * 4,
        number,
        number,
        *[size] * 5,
        pointer,
        number,
        number,
    ]
    return Kernel(library, supported, paths_of(bits), _processors())


def paths_of(bits: int) -> frozenset[str]:
    """The paths that are faster than OpenVINO's attention on this processor.

    Where there is AMX, OpenVINO's is faster in bf16. On Intel's processors with AVX-512 it is in f32: the
    kernel takes 1.25 times as long for heads of 40, and 1.35 for heads of 64.
    """
    slower = {"bf16", "bytes"} if bits & AMX else set[str]()
    if bits & INTEL and bits & F32_WIDE:
        slower.add("f32")
    return frozenset(name for name, bit in PATHS.items() if bits & bit) - slower


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def built_library() -> Path | None:
    """The compiled library, if the installation built it."""
    library = Path(__file__).with_name("attention.so.1")
    return library if library.exists() else None


def describe_kernel() -> str:
    """Describe the attention implementation in one line, for `pochade doctor`."""
    kernel = load_kernel()
    if kernel is not None and not kernel.paths:
        return "OpenVINO's, which is faster than the own kernel on this processor"
    if kernel is not None:
        amx = kernel.library.pochade_attention_path() & AMX
        in_tiles = ", in bf16 OpenVINO's with AMX" if amx else ""
        return f"own kernel for long rows ({', '.join(sorted(kernel.paths))}){in_tiles}, elsewhere OpenVINO's"
    if os.environ.get(DISABLED):
        return f"OpenVINO's ({DISABLED} is set)"
    if built_library() is None:
        return "OpenVINO's (the kernel was not built: install a C compiler, then Pochade again)"
    return "OpenVINO's (the kernel needs x86-64 with AVX2 on Linux)"


# Work space of calls that have ended, for the next ones: clearing fresh pages would take a tenth of the time.
_SPARE: list[NDArray[np.uint8]] = []


@contextmanager
def _scratch(size: int) -> Any:
    """Lend a buffer of at least this many bytes to one caller."""
    try:
        space = _SPARE.pop()
    except IndexError:
        space = np.empty(0, np.uint8)
    if space.nbytes < size:
        space = np.empty(size, np.uint8)
    try:
        yield space
    finally:
        _SPARE.append(space)
