"""The operations of `pochade.ops` as nodes of an OpenVINO graph, and stored tensors as its constants."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from pochade.engines.openvino_attention import KernelUse, TokenAttention
from pochade.engines.openvino_import import op, ov
from pochade.mapping import release_pages
from pochade.ops import Padding, Shape
from pochade.weights import FACTOR_DOWN, FACTOR_UP, View

Array = NDArray[Any]
Inputs = Mapping[str, tuple[Shape, str]]

INPUT_TYPES: Mapping[str, type[np.generic]] = {"f32": np.float32, "i64": np.int64}
TUPLE = "pochade:tuple"
BFLOAT16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
NARROW_TYPES: tuple[np.dtype[Any], ...] = (BFLOAT16, np.dtype(np.float16))


@dataclass(frozen=True, eq=False)
class Node:
    """A node of the graph, with the arithmetic of `pochade.ops`.

    OpenVINO's own nodes have these operators too, but refuse plain numbers.
    """

    graph: Any  # openvino.Node

    __array_ufunc__ = None  # so that `np.float32(2) * node` is left to __rmul__

    def __add__(self, other: "Node | float") -> "Node":
        return Node(op.add(self.graph, _operand(other)))

    def __sub__(self, other: "Node | float") -> "Node":
        return Node(op.subtract(self.graph, _operand(other)))

    def __rsub__(self, other: float) -> "Node":
        return Node(op.subtract(_operand(other), self.graph))

    def __mul__(self, other: "Node | float") -> "Node":
        return Node(op.multiply(self.graph, _operand(other)))

    def __truediv__(self, other: "Node | float") -> "Node":
        return Node(op.divide(self.graph, _operand(other)))

    def __rtruediv__(self, other: float) -> "Node":
        return Node(op.divide(_operand(other), self.graph))

    __radd__ = __add__
    __rmul__ = __mul__


def _operand(value: Node | float) -> Any:
    return value.graph if isinstance(value, Node) else op.constant(np.float32(value))


class OpenVinoOps:
    """`pochade.ops.Ops` on graph nodes. kernel: how attention over long sequences calls the compiled
    kernel."""

    def __init__(self, kernel: KernelUse | None = None) -> None:
        self._kernel = kernel

    def take(self, factors: Mapping[str, Node]) -> None:
        """Set the inputs that are LoRA factors, before the function is called (see `openvino_lora`)."""
        if factors:
            raise ValueError(f"these weights take no LoRA factors, but {', '.join(factors)} were given")

    def linear(self, x: Node, weight: Node, bias: Node | None = None) -> Node:
        y = Node(op.matmul(x.graph, weight.graph, transpose_a=False, transpose_b=True))
        return y if bias is None else y + bias

    def conv2d(
        self, x: Node, weight: Node, bias: Node | None, stride: int = 1, padding: Padding = (0, 0, 0, 0)
    ) -> Node:
        top, bottom, left, right = padding
        strides, begin, end, dilations = [stride, stride], [top, left], [bottom, right], [1, 1]
        y = Node(op.convolution(x.graph, weight.graph, strides, begin, end, dilations))
        return y if bias is None else y + self._per_channel(bias)

    def conv2d_doubled(self, x: Node, weight: Node, bias: Node | None) -> Node:
        # One 2x2 kernel for each of the four places within a doubled pixel, then interleaved: 0.94 of the
        # time of a whole UNet of SD 1.5 with doubled pixels.
        kernels = [self._merged(tall, axis=3) for tall in self._merged(weight, axis=2)]
        return self._doubled(x, kernels, bias)

    def attention(self, query: Node, key: Node, value: Node, *, causal: bool = False) -> Node:
        through_kernel = None if causal else self._kernel_attention(query, key, value)
        if through_kernel is not None:
            return through_kernel
        return Node(op.scaled_dot_product_attention(query.graph, key.graph, value.graph, causal=causal))

    def _kernel_attention(self, query: Node, key: Node, value: Node) -> Node | None:
        """Attention by the compiled kernel, which reads tokens that are not split into heads; None if the
        kernel does not support these sizes."""
        batch, heads, tokens, dim = self.shape(query)
        if self._kernel is None or not self._kernel.serves(self.shape(key)[2], dim):
            return None
        whole = [_before_heads(node) for node in (query, key, value)]
        if None in whole:
            return None
        given = [op.convert(node, self._kernel.numbers).output(0) for node in whole]
        result = op.convert(TokenAttention(given, heads=heads, use=self._kernel).output(0), "f32")
        return self.transpose(self.reshape(Node(result), (batch, tokens, heads, dim)), (0, 2, 1, 3))

    def group_norm(self, x: Node, weight: Node, bias: Node, groups: int, eps: float) -> Node:
        shape = self.shape(x)
        normal = _normalise(self.reshape(x, (shape[0], groups, -1)), eps)
        return self.reshape(normal, shape) * self._per_channel(weight) + self._per_channel(bias)

    def group_statistics(self, x: Node, groups: int, eps: float) -> tuple[Node, Node]:
        grouped = self.reshape(x, (self.shape(x)[0], groups, -1))
        last = integers([-1])
        mean = op.reduce_mean(grouped.graph, last, keep_dims=True)
        away = op.subtract(grouped.graph, mean)
        variance = op.reduce_mean(op.multiply(away, away), last, keep_dims=False)
        deviation = op.sqrt(op.add(variance, op.constant(np.float32(eps))))
        return Node(op.squeeze(mean, last)), Node(deviation)

    def layer_norm(self, x: Node, weight: Node, bias: Node, eps: float) -> Node:
        return _normalise(x, eps) * weight + bias

    def silu(self, x: Node) -> Node:
        return Node(op.swish(x.graph))

    def gelu(self, x: Node) -> Node:
        return Node(op.gelu(x.graph, approximation_mode="erf"))

    def quick_gelu(self, x: Node) -> Node:
        return Node(op.swish(x.graph, op.constant(np.float32(1.702))))

    def leaky_relu(self, x: Node, slope: float) -> Node:
        if slope == 0:
            return Node(op.relu(x.graph))
        return Node(op.prelu(x.graph, op.constant(np.array([slope], np.float32))))

    def tanh(self, x: Node) -> Node:
        return Node(op.tanh(x.graph))

    def shape(self, x: Node) -> Shape:
        """The static shape; a dimension that only has an upper bound is -1, which `reshape` accepts once."""
        sides = x.graph.get_output_partial_shape(0)
        return tuple(-1 if side.is_dynamic else side.get_length() for side in sides)

    def reshape(self, x: Node, shape: Shape) -> Node:
        return Node(op.reshape(x.graph, integers(shape), special_zero=False))

    def transpose(self, x: Node, axes: Shape) -> Node:
        return Node(op.transpose(x.graph, integers(axes)))

    def concat(self, parts: Sequence[Node], axis: int) -> Node:
        return Node(op.concat([part.graph for part in parts], axis))

    def narrow(self, x: Node, axis: int, start: int, stop: int) -> Node:
        return Node(op.slice(x.graph, *(integers([n]) for n in (start, stop, 1, axis))))

    def resize_nearest(self, x: Node, height: int, width: int) -> Node:
        _, _, rows, columns = self.shape(x)
        if (height, width) == (2 * rows, 2 * columns):
            # Keeps the memory layout of the convolutions around it; doubling is exact in floating point.
            size = integers([height, width])
            modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            return Node(op.interpolate(x.graph, size, "nearest", "sizes", axes=integers([2, 3]), **modes))
        tall = op.gather(x.graph, integers(np.arange(height) * rows // height), integers(2))
        return Node(op.gather(tall, integers(np.arange(width) * columns // width), integers(3)))

    def embedding(self, ids: Node, table: Node) -> Node:
        return Node(op.gather(table.graph, ids.graph, integers(0)))

    def pick(self, x: Node, positions: Node) -> Node:
        return Node(op.gather(x.graph, positions.graph, integers(1), batch_dims=1))

    def _doubled(self, x: Node, kernels: Sequence[Sequence[Node]], bias: Node | None) -> Node:
        """kernels: [row][column], (O, I, 2, 2) for each position within a doubled pixel."""
        return self._interleaved(
            [
                OpenVinoOps.conv2d(self, x, kernel, bias, 1, (1 - row, row, 1 - column, column))
                for row, tall in enumerate(kernels)
                for column, kernel in enumerate(tall)
            ]
        )

    def _interleaved(self, places: Sequence[Node]) -> Node:
        """Interleave the pictures (B, C, H, W) of the four positions in a doubled pixel: (B, C, 2 * H, 2 *
        W)."""
        batch, channels, height, width = self.shape(places[0])
        y = self.reshape(self.concat(places, 1), (batch, 2, 2, channels, height, width))
        return self.reshape(self.transpose(y, (0, 3, 4, 1, 5, 2)), (batch, channels, 2 * height, 2 * width))

    def _merged(self, kernel: Node, axis: int) -> list[Node]:
        """Merge three entries along an axis into two, as the first and the second of two equal pixels see
        them."""
        a, b, c = (self.narrow(kernel, axis, i, i + 1) for i in range(3))
        return [self.concat([a, b + c], axis), self.concat([a + b, c], axis)]

    def _per_channel(self, vector: Node) -> Node:
        return self.reshape(vector, (1, -1, 1, 1))


def _before_heads(x: Node) -> Any:
    """The tokens (B, T, N * D) that `models.layers.split_heads` made (B, N, T, D) of; None if it did not."""
    if x.graph.get_type_name() != "Transpose":
        return None
    split = x.graph.input_value(0).get_node()
    if split.get_type_name() != "Reshape" or list(split.get_output_shape(0)) != _swapped_heads(x):
        return None
    tokens = split.input_value(0)
    return tokens if len(tokens.get_shape()) == 3 else None


def _swapped_heads(x: Node) -> list[int]:
    batch, heads, tokens, dim = x.graph.get_output_shape(0)
    return [batch, tokens, heads, dim]


def _normalise(x: Node, eps: float) -> Node:
    """Zero mean and unit variance over the last axis."""
    return Node(op.mvn(x.graph, integers([-1]), normalize_variance=True, eps=eps, eps_mode="inside_sqrt"))


def integers(values: Any) -> Any:
    return op.constant(np.asarray(values, np.int64))


class Constants:
    """Turns stored tensors into f32 nodes, and keeps the memory alive that the nodes share.

    f32, f16 and bf16 tensors are shared without a copy. 8-bit floats are converted to bf16, which represents
    them exactly, other types to f32. round_to_bf16: store f32 matrices and kernels as bf16, as compiling for
    bf16 does anyway, so that a blob takes half the space; vectors stay as they are.
    """

    def __init__(self, *, round_to_bf16: bool = False) -> None:
        self._round = round_to_bf16
        self._memory: list[Array] = []

    def hold(self, array: Array) -> None:
        """Keep an array alive whose memory a node shares."""
        self._memory.append(array)

    @property
    def held_bytes(self) -> int:
        """The size of all arrays that nodes share, including those in mapped files."""
        return sum(array.nbytes for array in self._memory)

    def release_pages(self) -> None:
        """Release the pages of mapped files after compiling; they are read again if they are needed."""
        for array in self._memory:
            release_pages(array)

    def __call__(self, stored: Array, name: str = "") -> Node:
        array = np.asarray(stored, self._kept_as(stored), order="C")
        if array.dtype != stored.dtype:
            release_pages(stored)  # the pages of a mapped file, which are not wanted again
        if not array.flags.writeable:  # OpenVINO shares no memory that it might not write to
            array = array.copy()
        self._memory.append(array)
        if array.dtype != BFLOAT16:
            node = op.constant(array, shared_memory=True)
        else:  # numpy has no such type, so the bits travel as 16-bit integers
            bits = ov.Tensor(array.view(np.uint16), list(array.shape), ov.Type.bf16)
            node = op.constant(bits, shared_memory=True)
        if array.dtype == np.float32:
            return Node(node)
        widened = op.convert(node, "f32")
        widened.get_rt_info()["decompression_0"] = ""  # OpenVINO's mark for weights that are stored narrower
        return Node(widened)

    def _kept_as(self, stored: Array) -> np.dtype[Any]:
        if stored.dtype.itemsize == 1 or (self._round and stored.dtype == np.float32 and stored.ndim >= 2):
            return BFLOAT16
        return stored.dtype if stored.dtype in NARROW_TYPES else np.dtype(np.float32)


def build(
    function: Callable[..., Any], weights: View, inputs: Inputs, ops: OpenVinoOps | None = None
) -> ov.Model:
    """Build the graph of a model function. If it returns a tuple, the first result is named TUPLE.

    A dimension -n of an input's shape stands for anything from 1 to n.
    """
    parameters = {}
    for name, (shape, kind) in inputs.items():
        sides = [ov.Dimension(1, -side) if side < 0 else ov.Dimension(side) for side in shape]
        parameters[name] = op.parameter(ov.PartialShape(sides), INPUT_TYPES[kind])
        parameters[name].output(0).set_names({name})
    nodes = {name: Node(graph) for name, graph in parameters.items()}
    factors = {name: nodes.pop(name) for name in inputs if name.startswith((FACTOR_DOWN, FACTOR_UP))}
    ops = OpenVinoOps() if ops is None else ops
    ops.take(factors)
    returned = function(ops, weights, **nodes)
    made = returned if isinstance(returned, tuple) else (returned,)
    results = [op.result(node.graph) for node in made]
    if isinstance(returned, tuple):
        results[0].output(0).add_names({TUPLE})
    return ov.Model(results, list(parameters.values()))


def fits(given: Shape, shape: Shape) -> bool:
    """Whether an array of shape `given` fits an input of `shape`, whose dimensions may be upper bounds."""
    sides = zip(given, shape, strict=False)
    return len(given) == len(shape) and all(0 < a <= -b if b < 0 else a == b for a, b in sides)


def fixed(inputs: Inputs) -> Inputs:
    """The same inputs with all shapes as tuples."""
    return {name: (tuple(shape), kind) for name, (shape, kind) in inputs.items()}
