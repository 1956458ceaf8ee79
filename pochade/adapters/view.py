"""Views of a model's weights with adapters added; the stored weights are never modified."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pochade.adapters.deltas import Delta, LinearDelta, blocks
from pochade.weights import FACTOR_DOWN, FACTOR_UP

Array = NDArray[Any]

RANKS = 16
"""Ranks of factors are padded to a multiple of this."""
LARGEST = 1e30
"""The largest sum that is left to the engine. Larger sums are computed and checked here, to name the
weight."""
EMBEDDING = "embedding"
"""Part of the names of embedding tables, whose rows are looked up rather than multiplied."""

Deltas = Mapping[str, Delta]
"""Canonical name of a weight -> its delta."""


@dataclass(frozen=True, eq=False)
class WeightedDeltas:
    """Deltas with their weight. fingerprint: of the adapter's file."""

    deltas: Deltas
    weight: float
    fingerprint: str


def adapted(tensors: Mapping[str, Array], given: Sequence[WeightedDeltas]) -> Mapping[str, Array]:
    """Return the tensors with `w + sum of weight * delta` where there are deltas, and the same arrays
    elsewhere.

    A sum is computed in f32 at access, a few rows at a time, and rounded once to the type of `w`, or to f16
    if that has 8 bits, whose steps are larger than most of what an adapter adds. The result does not depend
    on
    the order of `given`, to the bit: each delta is computed from the original `w`.
    """
    changes: dict[str, list[tuple[float, Delta]]] = {}
    for each in in_order(given):
        for name, delta in each.deltas.items():
            changes.setdefault(name, []).append((each.weight, delta))
    return Adapted(tensors, changes) if changes else tensors


def factors(tensors: Mapping[str, Array], given: Sequence[WeightedDeltas]) -> dict[str, Array] | None:
    """Return the deltas as low-rank factors, named `weights.FACTOR_DOWN` or `FACTOR_UP` and the weight's
    name.

    The factors of all adapters of a weight are concatenated and padded with zeros to a multiple of `RANKS`,
    so that other adapters of similar rank have factors of the same shape. None if any delta is not of low
    rank, does not apply to a matrix of a product, or might overflow f32.
    """
    found: dict[str, Array] = {}
    pairs: dict[str, list[tuple[Array, Array]]] = {}
    for each in in_order(given):
        for name, delta in each.deltas.items():
            pair = delta.factors() if isinstance(delta, LinearDelta) else None
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


def fingerprint(base: str, given: Sequence[WeightedDeltas]) -> str:
    """Return the network's key in the cache of compiled graphs, which changes with adapters and strengths."""
    text = repr([(each.fingerprint, each.weight) for each in in_order(given)])
    return hashlib.sha256(f"{base} {text}".encode()).hexdigest()[:16] if text != "[]" else base


def in_order(given: Sequence[WeightedDeltas]) -> list[WeightedDeltas]:
    """Sort adapters into a fixed order and drop those of strength 0."""
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
        # Models read some weights in two halves, so the latest sum is cached.
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
    with np.errstate(over="ignore", invalid="ignore"):  # overflows are reported by FiniteTensors
        given = [(np.float32(weight), delta.by_rows(rows)) for weight, delta in changes]
        for begin, end in blocks(rows):
            wide = np.asarray(
                rows[begin:end], np.float32
            )  # not modified: for f32 weights it is the stored array
            for weight, change in given:
                added = change(begin, end)
                wide = wide + (added if weight == 1 else added * weight)
            total[begin:end] = wide
    return total.reshape(base.shape)


def sum_type(stored: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of a weight with additions, from its stored type."""
    return np.dtype(np.float16) if stored.itemsize == 1 else stored
