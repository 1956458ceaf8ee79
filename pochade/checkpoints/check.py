"""Checks of weights: expected names and finite numbers."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from pochade.errors import InvalidCheckpoint

Array = npt.NDArray[Any]

NAMES_SHOWN = 5
CHUNK_BYTES = 1 << 20  # fits into the L2 cache, so memory is read only once


def check_names(found: Iterable[str], expected: Iterable[str], where: Path | str) -> None:
    """Raise InvalidCheckpoint, listing missing and unexpected names, unless the names agree."""
    found, expected = set(found), set(expected)
    complaints = [
        f"{len(names)} {what}: {_listed(names)}"
        for what, names in (("missing", expected - found), ("unexpected", found - expected))
        if names
    ]
    if complaints:
        raise InvalidCheckpoint(
            f"the tensors of '{where}' do not fit its configuration: {'; '.join(complaints)};"
            " the file or its config.json belongs to another kind of model"
        )


@dataclass(frozen=True, eq=False)
class FiniteTensors(Mapping[str, Array]):
    """Tensors for engines: aligned, in C order, and checked with `check_finite` when they are first accessed.
    A tensor that is stored differently is copied at each access.

    A graph from the cache accesses no tensors, so a warm start does not read gigabytes for the check.
    """

    tensors: Mapping[str, Array]
    where: Path
    _passed: set[str] = field(default_factory=set, repr=False)

    def __getitem__(self, name: str) -> Array:
        tensor = np.require(self.tensors[name], requirements=("C", "A"))
        if name not in self._passed:
            check_finite({name: tensor}, self.where)
            self._passed.add(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def unchecked(tensors: Mapping[str, Array]) -> Mapping[str, Array]:
    """Return the same tensors without the check, for callers that need shapes or a few numbers."""
    return tensors.tensors if isinstance(tensors, FiniteTensors) else tensors


def check_finite(tensors: Mapping[str, Array], where: Path | str) -> None:
    """Raise InvalidCheckpoint, naming the first tensor with a NaN or an infinity. Integer tensors are valid.

    Reads all tensors once, at about memory bandwidth.
    """
    for name, tensor in tensors.items():
        bad = sum(count_not_finite(chunk) for chunk in _chunks(tensor))
        if bad:
            raise InvalidCheckpoint(
                f"tensor '{name}' in '{where}' has {bad:,} of {tensor.size:,} entries that are NaN or"
                " infinite: training diverged or the file is damaged; download it again or use another"
            )


def count_not_finite(flat: Array) -> int:
    """Count the NaNs and infinities in a contiguous array.

    In IEEE formats and bfloat16 these are exactly the numbers whose exponent bits are all ones. Testing the
    bits is a few times faster than `isfinite`, mostly for 16-bit types, and raises no floating point flags.
    """
    mask = _exponent_mask(flat.dtype)
    if mask is not None:
        exponents = flat.view(mask.dtype) & mask
        return int(np.count_nonzero(exponents == mask)) if exponents.max(initial=0) == mask else 0
    if np.issubdtype(flat.dtype, np.inexact) or flat.dtype.name.startswith("float8"):
        with np.errstate(invalid="ignore"):
            return int(np.count_nonzero(~np.isfinite(flat)))
    return 0


def _exponent_mask(dtype: np.dtype[Any]) -> Any:
    if dtype == np.float16:
        return np.uint16(0x7C00)
    if dtype == np.dtype(ml_dtypes.bfloat16):
        return np.uint16(0x7F80)
    if dtype == np.float32:
        return np.uint32(0x7F800000)
    if dtype == np.float64:
        return np.uint64(0x7FF0000000000000)
    return None


def _chunks(tensor: Array) -> Iterator[Array]:
    flat = np.ascontiguousarray(tensor).reshape(-1)
    step = CHUNK_BYTES // flat.itemsize
    for start in range(0, flat.size, step):
        yield flat[start : start + step]


def _listed(names: set[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in sorted(names)[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown}, ..."
