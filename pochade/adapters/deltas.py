"""What an adapter adds to one weight, in the factors that its file holds.

Every kind gives a matrix of `size`, (outputs, inputs): a convolution's weight (O, I, H, W) counts as
(O, I * H * W). Factors stay as they are stored until the sum is asked for; the arithmetic is f32.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]
Size = tuple[int, int]

TINY = float(np.finfo(np.float32).eps)


class Delta(Protocol):
    """An addend to a weight. `change(base)` is what is added to `base`, in its shape, at the strength 1."""

    @property
    def size(self) -> Size: ...

    def change(self, base: Floats) -> Floats: ...


def matrix_size(shape: tuple[int, ...]) -> Size:
    """(O, I, H, W) -> (O, I * H * W); (O,) -> (O, 1); one number -> (1, 1)."""
    return (*shape, 1)[0], int(np.prod(shape[1:], dtype=np.int64))


class Linear(ABC):
    """A delta that does not depend on what it is added to: `matrix()` is all of it."""

    @property
    @abstractmethod
    def size(self) -> Size: ...

    @abstractmethod
    def matrix(self) -> Floats: ...

    def change(self, base: Floats) -> Floats:
        return self.matrix().reshape(base.shape)


@dataclass(frozen=True, eq=False)
class LowRank(Linear):
    """scale * up @ down (Hu et al. 2021, equation 3), of convolutions too (LoCon).

    up (O, r), down (r, columns). middle (r, r, H, W), if the convolution is cut in three (Tucker): then down
    is (r, I).
    """

    up: Array
    down: Array
    scale: float
    middle: Array | None = None

    @property
    def size(self) -> Size:
        return len(self.up), self.down.shape[1] * _area(self.middle)

    def matrix(self) -> Floats:
        up = _f32(self.up) * np.float32(self.scale)
        if self.middle is None:
            return np.asarray(up @ _f32(self.down))
        return tucker(self.middle, up, self.down)


@dataclass(frozen=True, eq=False)
class Hadamard(Linear):
    """scale * first * second, element by element, each of low rank (LoHa; Hyeon-Woo et al. 2021, section 2).

    So the rank of the whole may be the square of theirs.
    """

    first: LowRank
    second: LowRank
    scale: float

    @property
    def size(self) -> Size:
        return self.first.size

    def matrix(self) -> Floats:
        return np.asarray(self.first.matrix() * self.second.matrix() * np.float32(self.scale))


@dataclass(frozen=True, eq=False)
class Kronecker(Linear):
    """scale * the Kronecker product of two matrices, each whole or of low rank (LoKr)."""

    first: "LowRank | Whole"
    second: "LowRank | Whole"
    scale: float

    @property
    def size(self) -> Size:
        return self.first.size[0] * self.second.size[0], self.first.size[1] * self.second.size[1]

    def matrix(self) -> Floats:
        return np.asarray(np.kron(self.first.matrix() * np.float32(self.scale), self.second.matrix()))


@dataclass(frozen=True, eq=False)
class Whole(Linear):
    """The difference itself, in the weight's shape."""

    difference: Array

    @property
    def size(self) -> Size:
        return matrix_size(self.difference.shape)

    def matrix(self) -> Floats:
        return _f32(self.difference).reshape(self.size)


@dataclass(frozen=True, eq=False)
class Part(Linear):
    """Rows `begin` to `end` of what was made for several weights that another program keeps in one."""

    whole: Linear
    begin: int
    end: int
    columns: int

    @property
    def size(self) -> Size:
        return self.end - self.begin, self.columns

    def matrix(self) -> Floats:
        return self.whole.matrix()[self.begin : self.end]


@dataclass(frozen=True, eq=False)
class Decomposed:
    """A change of direction, and lengths of its own (DoRA; Liu et al. 2024, equation 5).

    direction: any other kind. lengths: of each output's row, or of each input's column over all outputs,
    which the weight has after the change.
    """

    direction: Linear
    lengths: Array
    of_outputs: bool

    @property
    def size(self) -> Size:
        return self.direction.size

    def change(self, base: Floats) -> Floats:
        turned = base + self.direction.change(base)
        axis = 0 if self.of_outputs else 1
        others = tuple(i for i in range(base.ndim) if i != axis)
        norms = np.sqrt(np.square(turned).sum(axis=others, keepdims=True)) + np.float32(TINY)
        lengths = _f32(self.lengths).reshape(norms.shape)
        return np.asarray(turned * (lengths / norms) - base)


def tucker(middle: Array, up: Array, down: Array) -> Floats:
    """Sum over p, q of up[o, p] middle[p, q, h, w] down[q, i] as a matrix (O, I * H * W)."""
    core = np.tensordot(_f32(middle), _f32(down), axes=(1, 0))  # (p, h, w, i)
    core = core.transpose(0, 3, 1, 2).reshape(len(core), -1)
    return np.asarray(_f32(up) @ core)


def _area(middle: Array | None) -> int:
    return 1 if middle is None else int(np.prod(middle.shape[2:], dtype=np.int64))


def _f32(array: Array) -> Floats:
    return np.asarray(array, np.float32)
