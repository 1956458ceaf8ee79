"""Products of bytes: a vocabulary that puts the inputs and weights of products on their grids.

OpenVINO finds the pattern (an input rounded to 256 values, weights stored as int8) and runs 8-bit kernels;
what lies between the products stays in the engine's precision.
"""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pochade.engines.openvino_ops import Array, Constants, Node, OpenVinoOps
from pochade.engines.openvino_quiet import op
from pochade.int8 import Grid, Grids, round_weight
from pochade.mapping import let_go, moved_to_file
from pochade.ops import Padding

LARGE = 2**18
"""Bytes of a weight that is worth a file."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A weight that is not yet a constant, and the grid of the input that it meets."""

    array: Array
    grid: Grid


class Int8Ops(OpenVinoOps):
    """`OpenVinoOps`, with products of bytes where there are grids. Bind weights with `bind`.

    largest: 8-bit weight (see `pochade.int8`). constants: of all other weights. aside: a folder for files in
    which rounded weights wait for the compiler, where memory is short; None keeps them in memory.
    convolving: linear layers over tokens are computed as convolutions of single places. Without instructions
    for products of bytes OpenVINO's kernels for matrices take twice the time of those.
    """

    def __init__(
        self,
        grids: Grids,
        largest: int,
        constants: Constants,
        aside: Path | None = None,
        *,
        convolving: bool = False,
    ) -> None:
        self._grids, self._largest, self._constants, self._aside = grids, largest, constants, aside
        self._convolving = convolving
        self._rounded: dict[tuple[str, float, float, bytes], Node] = {}

    def bind(self, stored: Array, name: str) -> Node | Stored:
        grid = self._grids.get(name)
        return self._constants(stored, name) if grid is None else Stored(stored, grid)

    def linear(self, x: Node, weight: Node | Stored, bias: Node | None = None) -> Node:
        if not isinstance(weight, Stored):
            return super().linear(x, weight, bias)
        x, grid = self._input(x, weight.grid, axis=-1), weight.grid
        if not self._convolving or len(self.shape(x)) != 3:
            return super().linear(x, self._weight(weight.array, grid), bias)
        kernel = self._weight(weight.array[..., None], grid)
        across = op.convolution(_swapped(x.graph), kernel.graph, [1], [0], [0], [1])
        y = Node(_swapped(across))
        return y if bias is None else y + bias

    def conv2d(
        self,
        x: Node,
        weight: Node | Stored,
        bias: Node | None,
        stride: int = 1,
        padding: Padding = (0, 0, 0, 0),
    ) -> Node:
        if isinstance(weight, Stored):
            x, weight = self._input(x, weight.grid, axis=1), self._weight(weight.array, weight.grid)
        return super().conv2d(x, weight, bias, stride, padding)

    def conv2d_doubled(self, x: Node, weight: Node | Stored, bias: Node | None) -> Node:
        if not isinstance(weight, Stored):
            return super().conv2d_doubled(x, weight, bias)
        quarters = partial(self._weight, grid=weight.grid)
        tall = _merged(weight.array.astype(np.float32), axis=2)
        kernels = [[quarters(kernel) for kernel in _merged(row, axis=3)] for row in tall]
        return self._doubled(self._input(x, weight.grid, axis=1), kernels, bias)

    def _input(self, x: Node, grid: Grid, axis: int) -> Node:
        """x divided by the smoothing, on its grid. Products that read the same x share it."""
        key = (x.graph.get_name(), grid.low, grid.high, grid.smoothing.tobytes())
        if key not in self._rounded:
            shape = [1] * len(self.shape(x))
            ends = [_constant(np.full(shape, end)) for end in (grid.low, grid.high)]
            bounded = -1 in self.shape(x)
            shape[axis] = -1
            smoothing = grid.smoothing.reshape(shape)
            if bounded:  # of which OpenVINO rounds all channels alike only
                smooth = op.multiply(x.graph, _constant(1 / smoothing))
                self._rounded[key] = Node(op.fake_quantize(smooth, *ends, *ends, 256))
            else:
                wide = [_constant(end * smoothing) for end in (grid.low, grid.high)]
                self._rounded[key] = Node(op.fake_quantize(x.graph, *wide, *ends, 256))
        return self._rounded[key]

    def _weight(self, array: Array, grid: Grid) -> Node:
        rounded, steps = round_weight(array, grid.smoothing, self._largest)
        let_go(array)  # the pages of a mapped file, which are not wanted again
        if self._aside is not None and rounded.nbytes >= LARGE:
            with suppress(OSError):  # a full disk: then it is memory after all
                rounded = moved_to_file(rounded, self._aside)
        self._constants.hold(rounded)
        whole = op.convert(op.constant(rounded, shared_memory=True), "f32")
        return Node(op.multiply(whole, _constant(steps)))


def _constant(array: Array) -> Any:
    return op.constant(np.asarray(array, np.float32))


def _swapped(tokens: Any) -> Any:
    """(B, T, C) -> (B, C, T) and back. In memory nothing moves: the kernels read channels last."""
    return op.transpose(tokens, op.constant(np.array([0, 2, 1])))


def _merged(kernel: Array, axis: int) -> list[Array]:
    """As `OpenVinoOps` merges three entries of a kernel to two, before they are rounded."""
    a, b, c = np.split(kernel, 3, axis)
    return [np.concatenate([a, b + c], axis), np.concatenate([a + b, c], axis)]
