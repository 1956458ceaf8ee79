"""Deltas: what an adapter adds to one weight, kept as the factors in its file.

Every kind represents a matrix of `size`, (outputs, inputs): a convolution's weight (O, I, H, W) counts as
(O, I * H * W). Factors stay as stored until the sum is computed in f32. The sum is computed a few rows at a
time, so that no temporary array has the size of the weight.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]
Size = tuple[int, int]

Rows = Callable[[int, int], Floats]
"""`rows(begin, end)`: these rows of what is added to a weight at strength 1."""

TINY = float(np.finfo(np.float32).eps)
BLOCK = 2**18
"""How many numbers are computed at a time: as many as fit a processor core's cache in f32."""


class Delta(Protocol):
    """Something that is added to a weight."""

    @property
    def size(self) -> Size: ...

    def by_rows(self, base: Array) -> Rows:
        """Return what is added to `base`, in its shape. `base` has at least one axis."""
        ...


def blocks(base: Array) -> Iterator[tuple[int, int]]:
    """Yield begin and end of blocks of rows of about `BLOCK` numbers."""
    rows = max(1, BLOCK // max(1, base[:1].size))
    return ((begin, min(begin + rows, len(base))) for begin in range(0, len(base), rows))


def matrix_size(shape: tuple[int, ...]) -> Size:
    """(O, I, H, W) -> (O, I * H * W); (O,) -> (O, 1); one number -> (1, 1)."""
    return (*shape, 1)[0], int(np.prod(shape[1:], dtype=np.int64))


class LinearDelta(ABC):
    """A delta that does not depend on the weight it is added to."""

    @property
    @abstractmethod
    def size(self) -> Size: ...

    @abstractmethod
    def rows(self) -> Rows:
        """Return a function for rows of the matrix of `size`."""

    def factors(self) -> tuple[Floats, Floats] | None:
        """Return (O, R) and (R, columns), whose product is the matrix; None if the delta is not of low
        rank."""
        return None

    def matrix(self) -> Floats:
        """Return the whole matrix."""
        return self.rows()(0, self.size[0])

    def by_rows(self, base: Array) -> Rows:
        rows, rest = self.rows(), base.shape[1:]
        return lambda begin, end: rows(begin, end).reshape(end - begin, *rest)


@dataclass(frozen=True, eq=False)
class LowRank(LinearDelta):
    """LoRA: scale * up @ down (Hu et al. 2021, equation 3), for convolutions too (LoCon).

    up (O, r), down (r, columns). middle (r, r, H, W) for a Tucker decomposition of a convolution: then down
    is (r, I).
    """

    up: Array
    down: Array
    scale: float
    middle: Array | None = None

    @property
    def size(self) -> Size:
        return len(self.up), self.down.shape[1] * _area(self.middle)

    def factors(self) -> tuple[Floats, Floats] | None:
        if self.middle is not None:
            return None
        return _f32(self.up) * np.float32(self.scale), _f32(self.down)

    def rows(self) -> Rows:
        up = _f32(self.up) * np.float32(self.scale)
        down = _f32(self.down) if self.middle is None else tucker_core(self.middle, self.down)
        return lambda begin, end: np.asarray(up[begin:end] @ down)


@dataclass(frozen=True, eq=False)
class Hadamard(LinearDelta):
    """LoHa: scale * first * second, elementwise, each of low rank (Hyeon-Woo et al. 2021, section 2).

    The rank of the product may be the square of theirs.
    """

    first: LowRank
    second: LowRank
    scale: float

    @property
    def size(self) -> Size:
        return self.first.size

    def rows(self) -> Rows:
        first, second, scale = self.first.rows(), self.second.rows(), np.float32(self.scale)
        return lambda begin, end: np.asarray(first(begin, end) * second(begin, end) * scale)


@dataclass(frozen=True, eq=False)
class Kronecker(LinearDelta):
    """LoKr: scale * the Kronecker product of two matrices, each full or of low rank."""

    first: "LowRank | FullDelta"
    second: "LowRank | FullDelta"
    scale: float

    @property
    def size(self) -> Size:
        return self.first.size[0] * self.second.size[0], self.first.size[1] * self.second.size[1]

    def rows(self) -> Rows:
        first, second = self.first.matrix() * np.float32(self.scale), self.second.rows()
        inner_rows = self.second.size[0]

        def rows(begin: int, end: int) -> Floats:
            parts = []
            while begin < end:
                outer, inner = divmod(begin, inner_rows)
                stop = min(inner_rows, inner + end - begin)
                products = first[outer][None, :, None] * second(inner, stop)[:, None, :]
                parts.append(products.reshape(stop - inner, -1))
                begin += stop - inner
            return np.concatenate(parts)

        return rows


@dataclass(frozen=True, eq=False)
class FullDelta(LinearDelta):
    """A full difference, in the weight's shape."""

    difference: Array

    @property
    def size(self) -> Size:
        return matrix_size(self.difference.shape)

    def rows(self) -> Rows:
        difference = self.difference.reshape(self.size)
        return lambda begin, end: _f32(difference[begin:end])


@dataclass(frozen=True, eq=False)
class RowSlice(LinearDelta):
    """Rows `begin` to `end` of a delta for several weights that another program fuses into one."""

    delta: LinearDelta
    begin: int
    end: int
    columns: int

    @property
    def size(self) -> Size:
        return self.end - self.begin, self.columns

    def factors(self) -> tuple[Floats, Floats] | None:
        delta = self.delta.factors()
        return None if delta is None else (delta[0][self.begin : self.end], delta[1])

    def rows(self) -> Rows:
        rows = self.delta.rows()
        return lambda begin, end: rows(self.begin + begin, self.begin + end)


@dataclass(frozen=True, eq=False)
class DoraDelta:
    """DoRA: a change of direction, and magnitudes (Liu et al. 2024, equation 5).

    direction: any other kind of delta. lengths: the norms that the rows (or the columns) of the weight have
    after the change.
    """

    direction: LinearDelta
    lengths: Array
    of_outputs: bool

    @property
    def size(self) -> Size:
        return self.direction.size

    def by_rows(self, base: Array) -> Rows:
        direction = self.direction.by_rows(base)
        axis = 0 if self.of_outputs else 1
        others = tuple(i for i in range(base.ndim) if i != axis)

        def turned(begin: int, end: int) -> Floats:
            return np.asarray(_f32(base[begin:end]) + direction(begin, end))

        def squares(begin: int, end: int) -> Floats:
            return np.asarray(np.square(turned(begin, end)).sum(axis=others, keepdims=True))

        shape = tuple(side if i == axis else 1 for i, side in enumerate(base.shape))
        lengths = _f32(self.lengths).reshape(shape)
        of_inputs = np.zeros(shape, np.float32)
        if not self.of_outputs:
            for block in blocks(base):
                of_inputs += squares(*block)

        def rows(begin: int, end: int) -> Floats:
            found = squares(begin, end) if self.of_outputs else of_inputs
            wanted = lengths[begin:end] if self.of_outputs else lengths
            norms = np.sqrt(found) + np.float32(TINY)
            return np.asarray(turned(begin, end) * (wanted / norms) - _f32(base[begin:end]))

        return rows


def tucker_core(middle: Array, down: Array) -> Floats:
    """Return the sum over q of middle[p, q, h, w] down[q, i] as a matrix (p, I * H * W)."""
    core = np.tensordot(_f32(middle), _f32(down), axes=(1, 0))  # (p, h, w, i)
    return np.asarray(core.transpose(0, 3, 1, 2).reshape(len(core), -1))


def _area(middle: Array | None) -> int:
    return 1 if middle is None else int(np.prod(middle.shape[2:], dtype=np.int64))


def _f32(array: Array) -> Floats:
    return np.asarray(array, np.float32)
