"""The OpenVINO engine: a model function becomes a graph, straight from memory-mapped weights.

Nothing is traced or converted. The function runs once with `OpenVinoOps`, whose tensors are graph nodes;
that takes about a tenth of a second for the UNet of Stable Diffusion 1.5, so a graph with static shapes is
built for every picture size. Compiling it takes seconds; `openvino_cache` keeps the result on disk.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

from pochade.errors import InvalidRequest
from pochade.ops import Padding, Shape
from pochade.weights import View

Array = NDArray[Any]

INPUT_TYPES: Mapping[str, type[np.generic]] = {"f32": np.float32, "i64": np.int64}
DEVICES: Mapping[str, str] = {"cpu": "CPU", "gpu": "GPU"}
PRECISIONS: Mapping[str, ov.Type] = {"f32": ov.Type.f32, "bf16": ov.Type.bf16, "f16": ov.Type.f16}


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
    """`pochade.ops.Ops` on graph nodes."""

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

    def attention(self, query: Node, key: Node, value: Node, *, causal: bool = False) -> Node:
        return Node(op.scaled_dot_product_attention(query.graph, key.graph, value.graph, causal=causal))

    def group_norm(self, x: Node, weight: Node, bias: Node, groups: int, eps: float) -> Node:
        shape = self.shape(x)
        normal = _normalise(self.reshape(x, (shape[0], groups, -1)), eps)
        return self.reshape(normal, shape) * self._per_channel(weight) + self._per_channel(bias)

    def layer_norm(self, x: Node, weight: Node, bias: Node, eps: float) -> Node:
        return _normalise(x, eps) * weight + bias

    def silu(self, x: Node) -> Node:
        return Node(op.swish(x.graph))

    def gelu(self, x: Node) -> Node:
        return Node(op.gelu(x.graph, approximation_mode="erf"))

    def quick_gelu(self, x: Node) -> Node:
        return Node(op.swish(x.graph, op.constant(np.float32(1.702))))

    def shape(self, x: Node) -> Shape:
        return tuple(x.graph.get_output_shape(0))

    def reshape(self, x: Node, shape: Shape) -> Node:
        return Node(op.reshape(x.graph, _integers(shape), special_zero=False))

    def transpose(self, x: Node, axes: Shape) -> Node:
        return Node(op.transpose(x.graph, _integers(axes)))

    def concat(self, parts: Sequence[Node], axis: int) -> Node:
        return Node(op.concat([part.graph for part in parts], axis))

    def narrow(self, x: Node, axis: int, start: int, stop: int) -> Node:
        return Node(op.slice(x.graph, *(_integers([n]) for n in (start, stop, 1, axis))))

    def resize_nearest(self, x: Node, height: int, width: int) -> Node:
        # Indices from the host are exact at every size; `interpolate` would divide in floating point.
        _, _, rows, columns = self.shape(x)
        tall = op.gather(x.graph, _integers(np.arange(height) * rows // height), _integers(2))
        return Node(op.gather(tall, _integers(np.arange(width) * columns // width), _integers(3)))

    def embedding(self, ids: Node, table: Node) -> Node:
        return Node(op.gather(table.graph, ids.graph, _integers(0)))

    def pick(self, x: Node, positions: Node) -> Node:
        return Node(op.gather(x.graph, positions.graph, _integers(1), batch_dims=1))

    def _per_channel(self, vector: Node) -> Node:
        return self.reshape(vector, (1, -1, 1, 1))


def _normalise(x: Node, eps: float) -> Node:
    """Zero mean and unit variance over the last axis."""
    return Node(op.mvn(x.graph, _integers([-1]), normalize_variance=True, eps=eps, eps_mode="inside_sqrt"))


def _integers(values: Any) -> Any:
    return op.constant(np.asarray(values, np.int64))


def constant(stored: Array) -> Node:
    """A stored tensor (f32, f16 or bf16) as an f32 node that shares its memory."""
    array = np.ascontiguousarray(stored).reshape(stored.shape)
    if array.dtype.name == "bfloat16":  # numpy cannot name it: the bits travel as 16-bit integers
        bits = ov.Tensor(array.view(np.uint16), list(array.shape), ov.Type.bf16)
        node = op.constant(bits, shared_memory=True)
    else:
        node = op.constant(array, shared_memory=array.flags.writeable)
    if array.dtype == np.float32:
        return Node(node)
    converted = op.convert(node, "f32")
    converted.get_rt_info()["decompression_0"] = ""
    return Node(converted)


def build(
    function: Callable[..., Any], tensors: Mapping[str, Array], inputs: Mapping[str, tuple[Shape, str]]
) -> ov.Model:
    """The graph of a model function; its outputs are called 'result', or 'result.0', ... for a tuple."""
    parameters = {name: op.parameter(list(shape), INPUT_TYPES[kind], name) for name, (shape, kind) in inputs.items()}
    for name, parameter in parameters.items():
        parameter.output(0).set_names({name})
    returned = function(OpenVinoOps(), View(tensors, bind=constant), **{n: Node(p) for n, p in parameters.items()})
    named = (
        {f"result.{i}": node for i, node in enumerate(returned)}
        if isinstance(returned, tuple)
        else {"result": returned}
    )
    results = []
    for name, node in named.items():
        result = op.result(node.graph)
        result.output(0).set_names({name})
        results.append(result)
    return ov.Model(results, list(parameters.values()), "pochade")
