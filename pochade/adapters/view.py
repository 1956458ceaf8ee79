"""A model's weights with adapters added, as a view: nothing that is stored is ever written to."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pochade.adapters.deltas import Delta, Linear, blocks
from pochade.weights import FACTOR_DOWN, FACTOR_UP

Array = NDArray[Any]

RANKS = 16
"""Ranks of factors are filled up to a multiple of this."""
LARGEST = 1e30
"""Of a sum that is left to arithmetic. Beyond it the sum is made, looked through, and refused by name."""
EMBEDDING = "embedding"
"""In the names of tables, whose rows are picked rather than multiplied."""

Deltas = Mapping[str, Delta]
"""Canonical name of a weight -> what is added to it."""


@dataclass(frozen=True, eq=False)
class Strength:
    """Deltas, and how much of them. fingerprint: of the file that they came from."""

    deltas: Deltas
    weight: float
    fingerprint: str


def adapted(tensors: Mapping[str, Array], given: Sequence[Strength]) -> Mapping[str, Array]:
    """The same names, `w + sum of weight * delta` where something is added; elsewhere the very same arrays.

    A sum is made in f32 when the tensor is asked for, a few rows at a time, and rounded once, to the type
    that `w` has; where that has 8 bits, to f16, since most of what an adapter adds is smaller than the steps
    of 8 bits. It is the same in every order of `given`, to the bit: a delta sees `w`, not what another made
    of it.
    """
    changes: dict[str, list[tuple[float, Delta]]] = {}
    for each in in_order(given):
        for name, delta in each.deltas.items():
            changes.setdefault(name, []).append((each.weight, delta))
    return Adapted(tensors, changes) if changes else tensors


def factors(tensors: Mapping[str, Array], given: Sequence[Strength]) -> dict[str, Array] | None:
    """The same additions as low-rank factors, by `weights.FACTOR_DOWN` and `FACTOR_UP` and the weight's name.

    All adapters' factors of a weight stand side by side, filled up with zeros to a multiple of `RANKS`, so
    that other adapters of about these ranks have factors of the same shapes. None if there is any addition
    that is none of low rank, or not to a matrix that a product reads, or one that f32 may not hold.
    """
    found: dict[str, Array] = {}
    pairs: dict[str, list[tuple[Array, Array]]] = {}
    for each in in_order(given):
        for name, delta in each.deltas.items():
            pair = delta.factors() if isinstance(delta, Linear) else None
            shape = tensors[name].shape
            if pair is None or len(shape) not in (2, 4) or shape[2:] not in ((), (1, 1)) or EMBEDDING in name:
                return None
            with np.errstate(over="ignore", invalid="ignore"):
                pairs.setdefault(name, []).append((pair[0] * np.float32(each.weight), pair[1]))
    for name, several in pairs.items():
        up = np.concatenate([one for one, _ in several], axis=1)
        down = np.concatenate([other for _, other in several], axis=0)
        if not float(np.abs(up).max(initial=0)) * float(np.abs(down).max(initial=0)) * len(down) < LARGEST:
            return None
        more = -len(down) % RANKS
        found[FACTOR_DOWN + name] = np.pad(down, ((0, more), (0, 0)))
        found[FACTOR_UP + name] = np.pad(up, ((0, 0), (0, more)))
    return found


def fingerprint(base: str, given: Sequence[Strength]) -> str:
    """What a network goes by in the cache of compiled graphs: another for other adapters or strengths."""
    text = repr([(each.fingerprint, each.weight) for each in in_order(given)])
    return hashlib.sha256(f"{base} {text}".encode()).hexdigest()[:16] if text != "[]" else base


def in_order(given: Sequence[Strength]) -> list[Strength]:
    """One order, whichever they are given in; those of strength 0 left out."""
    present = [each for each in given if each.weight != 0 and each.deltas]
    return sorted(present, key=lambda each: (each.fingerprint, each.weight))


@dataclass(frozen=True, eq=False, repr=False)
class Adapted(Mapping[str, Array]):
    """See `adapted`."""

    tensors: Mapping[str, Array]
    changes: Mapping[str, Sequence[tuple[float, Delta]]]
    _latest: dict[str, Array] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Array:
        base = self.tensors[name]
        if name not in self.changes:
            return base
        # Models take some weights in halves, one after the other: the last one made is worth keeping.
        known = self._latest.get(name)
        if known is None:
            known = _sum(base, self.changes[name])
            self._latest.clear()
            self._latest[name] = known
        return known

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __repr__(self) -> str:
        return f"Adapted({len(self.changes)} of {len(self)} tensors)"


def _sum(base: Array, changes: Sequence[tuple[float, Delta]]) -> Array:
    rows = base.reshape(-1) if base.ndim == 0 else base
    total = np.empty(rows.shape, sum_type(base.dtype))
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found by name, see FiniteTensors
        given = [(np.float32(weight), delta.by_rows(rows)) for weight, delta in changes]
        for begin, end in blocks(rows):
            wide = np.asarray(
                rows[begin:end], np.float32
            )  # not written to: of f32 weights it is what is stored
            for weight, change in given:
                added = change(begin, end)
                wide = wide + (added if weight == 1 else added * weight)
            total[begin:end] = wide
    return total.reshape(base.shape)


def sum_type(stored: np.dtype[Any]) -> np.dtype[Any]:
    """The type of a weight to which something was added, from the type that it is stored in."""
    return np.dtype(np.float16) if stored.itemsize == 1 else stored
