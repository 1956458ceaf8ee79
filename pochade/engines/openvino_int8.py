"""8-bit products in OpenVINO: operations that quantize the inputs and weights of products.

OpenVINO recognises the pattern (an input rounded to 256 values, weights stored as int8) and runs 8-bit
kernels. Everything between the products stays in the engine's precision.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from pochade.engines.openvino_attention import KernelUse
from pochade.engines.openvino_import import op
from pochade.engines.openvino_ops import Array, Constants, Node, OpenVinoOps, integers
from pochade.engines.openvino_rounded import Rounded
from pochade.int8 import Grid, Grids, round_weight
from pochade.mapping import moved_to_file, release_pages
from pochade.ops import Padding

LARGE = 2**18
"""Weights of at least this many bytes are moved to files where memory is short."""


@dataclass(frozen=True, eq=False)
class UnroundedWeight:
    """A weight that has not been rounded yet, its name, and the grid of the input it is multiplied with."""

    array: Array
    grid: Grid
    name: str


class Int8Ops(OpenVinoOps):
    """`OpenVinoOps` with 8-bit products where there are grids. Bind weights with `bind`.

    largest: the largest 8-bit weight (see `pochade.int8`). constants: creates all other weights.
    scratch_folder: where rounded weights are stored until they are compiled, if memory is short; None keeps
    them in memory. known: weights that an earlier graph rounded to these grids. as_convolutions: compute
    linear layers over tokens as 1x1 convolutions; without 8-bit instructions OpenVINO's matrix kernels take
    twice as long as its convolutions.
    """

    def __init__(
        self,
        grids: Grids,
        largest: int,
        constants: Constants,
        scratch_folder: Path | None = None,
        *,
        as_convolutions: bool = False,
        kernel: KernelUse | None = None,
        known: Rounded | None = None,
    ) -> None:
        super().__init__(kernel)
        self._known = known or {}
        self.rounded_weights: dict[str, tuple[Array, Array]] = {}
        """The weights of this graph by name, and by position where a kernel was merged."""
        self._grids, self._largest, self._constants = grids, largest, constants
        self._scratch_folder = scratch_folder
        self._as_convolutions = as_convolutions
        self._rounded: dict[tuple[str, float, float, bytes, bool], Node] = {}

    def bind(self, stored: Array, name: str) -> Node | UnroundedWeight:
        grid = self._grids.get(name)
        return self._constants(stored, name) if grid is None else UnroundedWeight(stored, grid, name)

    def linear(self, x: Node, weight: Node | UnroundedWeight, bias: Node | None = None) -> Node:
        if not isinstance(weight, UnroundedWeight):
            return super().linear(x, weight, bias)
        x = self._input(x, weight.grid, axis=-1)
        if not self._as_convolutions or len(self.shape(x)) != 3:
            return super().linear(x, self._weight(weight.array, weight), bias)
        kernel = self._weight(weight.array[..., None], weight)
        across = op.convolution(_swapped(x.graph), kernel.graph, [1], [0], [0], [1])
        y = Node(_swapped(across))
        return y if bias is None else y + bias

    def conv2d(
        self,
        x: Node,
        weight: Node | UnroundedWeight,
        bias: Node | None,
        stride: int = 1,
        padding: Padding = (0, 0, 0, 0),
    ) -> Node:
        if not isinstance(weight, UnroundedWeight):
            return super().conv2d(x, weight, bias, stride, padding)
        kernel, offset = self._kernel_of(weight.name, lambda: weight.array, weight.grid, x)
        if offset is None:
            return super().conv2d(self._input(x, weight.grid, axis=1), kernel, bias, stride, padding)
        padded = self._input(_padded(x, padding), weight.grid, axis=1, from_zero=True)
        return super().conv2d(padded, kernel, None, stride) + self._with_offset(bias, offset)

    def conv2d_doubled(self, x: Node, weight: Node | UnroundedWeight, bias: Node | None) -> Node:
        if not isinstance(weight, UnroundedWeight):
            return super().conv2d_doubled(x, weight, bias)

        @cache
        def rows() -> list[Array]:
            return _merged(weight.array.astype(np.float32), axis=2)

        def merged(row: int, column: int) -> Array:
            return _merged(rows()[row], axis=3)[column]

        kernels = [
            [
                self._kernel_of(f"{weight.name} {row} {column}", partial(merged, row, column), weight.grid, x)
                for column in range(2)
            ]
            for row in range(2)
        ]
        if kernels[0][0][1] is None:
            plain = [[kernel for kernel, _ in row] for row in kernels]
            return self._doubled(self._input(x, weight.grid, axis=1), plain, bias)
        places = []
        for row, columns in enumerate(kernels):
            for column, (kernel, offset) in enumerate(columns):
                padded = _padded(x, (1 - row, row, 1 - column, column))
                y = super().conv2d(self._input(padded, weight.grid, axis=1, from_zero=True), kernel, None)
                places.append(y + self._with_offset(bias, offset))
        return self._interleaved(places)

    def _kernel_of(
        self, name: str, array: Callable[[], Array], grid: Grid, x: Node
    ) -> tuple[Node, Array | None]:
        """A convolution's rounded weights; and if its input is shifted to start at 0, the resulting offset of
        each output channel.

        If a grid begins below 0, OpenVINO multiplies each kernel by that offset whenever it compiles or
        imports the graph, and reorders the kernel at a fifth of the speed: two thirds of the start time of
        SD 1.5. A grid that begins at 0 needs explicit zero padding instead, which costs more than it saves
        where the picture has more elements than the kernel.
        """
        rounded, steps = self._rounded_weight(name, array, grid)
        node = self._weight_node(rounded, steps)
        if grid.low == 0 or rounded.size < prod(self.shape(x)[1:]):
            return node, None
        sums = rounded.reshape(len(rounded), -1).sum(axis=1, dtype=np.int64)
        return node, (grid.low * sums * steps.reshape(-1)).astype(np.float32)

    def _with_offset(self, bias: Node | None, offset: Array | None) -> Node:
        assert offset is not None, "kernels of one layer are treated alike"
        constant = Node(_constant(offset.reshape(1, -1, 1, 1)))
        return constant if bias is None else self._per_channel(bias) + constant

    def _input(self, x: Node, grid: Grid, axis: int, *, from_zero: bool = False) -> Node:
        """x divided by the smoothing and rounded to its grid, minus the grid's minimum if `from_zero`.
        Products that read the same x share the result."""
        key = (x.graph.get_name(), grid.low, grid.high, grid.smoothing.tobytes(), from_zero)
        if key not in self._rounded:
            shape = [1] * len(self.shape(x))
            moved = grid.low if from_zero else 0.0
            ends = [_constant(np.full(shape, end - moved)) for end in (grid.low, grid.high)]
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

    def _weight(self, array: Array, weight: UnroundedWeight) -> Node:
        """array: the stored weight, possibly with further axes of length 1."""
        rounded, steps = self._rounded_weight(weight.name, lambda: weight.array, weight.grid)
        steps = steps.reshape(steps.shape + (1,) * (array.ndim - steps.ndim))
        return self._weight_node(rounded.reshape(array.shape), steps)

    def _rounded_weight(self, name: str, array: Callable[[], Array], grid: Grid) -> tuple[Array, Array]:
        if name not in self._known:
            stored = array()
            rounded, steps = round_weight(stored, grid.smoothing, self._largest)
            release_pages(stored)  # the pages of a mapped file, which are not wanted again
            if self._scratch_folder is not None and rounded.nbytes >= LARGE:
                with suppress(OSError):  # a full disk: then it is memory after all
                    rounded = moved_to_file(rounded, self._scratch_folder)
            self.rounded_weights[name] = (rounded, steps)
        else:
            self.rounded_weights[name] = self._known[name]
        return self.rounded_weights[name]

    def _weight_node(self, rounded: Array, steps: Array) -> Node:
        self._constants.hold(rounded)
        whole = op.convert(op.constant(rounded, shared_memory=True), "f32")
        return Node(op.multiply(whole, _constant(steps)))


def _constant(array: Array) -> Any:
    return op.constant(np.asarray(array, np.float32))


def _padded(x: Node, padding: Padding) -> Node:
    """Add zero padding around the picture."""
    if not any(padding):
        return x
    top, bottom, left, right = padding
    begin, end = integers([0, 0, top, left]), integers([0, 0, bottom, right])
    return Node(op.pad(x.graph, begin, end, "constant", np.float32(0)))


def _swapped(tokens: Any) -> Any:
    """(B, T, C) -> (B, C, T) and back. In memory nothing moves: the kernels read channels last."""
    return op.transpose(tokens, op.constant(np.array([0, 2, 1])))


def _merged(kernel: Array, axis: int) -> list[Array]:
    """As `OpenVinoOps` merges three entries of a kernel to two, before they are rounded."""
    a, b, c = np.split(kernel, 3, axis)
    return [np.concatenate([a, b + c], axis), np.concatenate([a + b, c], axis)]
