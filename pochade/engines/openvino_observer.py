"""Operations that record the inputs of products while they compute; 8-bit grids are fitted to the records."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pochade.engines.openvino_import import op, ov
from pochade.engines.openvino_ops import (
    BFLOAT16,
    Array,
    Constants,
    Inputs,
    Node,
    OpenVinoOps,
    build,
    integers,
)
from pochade.int8 import InputStatistics, Observations
from pochade.ops import Padding
from pochade.weights import View

ROWS = 16
"""Tokens or pixels that are sampled from an input in each evaluation."""

FEW = 9
"""Products with at most this many input or output channels gain nothing from 8 bits: the first convolution
(4 channels, 9 in an inpainting model) and the last."""


@dataclass(frozen=True, eq=False)
class NamedWeight(Node):
    """A weight with its name and its stored array."""

    name: str
    stored: Array


@dataclass(eq=False)
class ObservedInput:
    """An input of products, its channel axis, and the weights it is multiplied with."""

    x: Node
    axis: int
    weights: dict[str, Array] = field(default_factory=dict)


class ObservingOps(OpenVinoOps):
    """`OpenVinoOps` that record the inputs of products. Bind weights with `bind`."""

    def __init__(self, constants: Constants) -> None:
        super().__init__()
        self._constants = constants
        self.read: dict[str, ObservedInput] = {}

    def bind(self, stored: Array, name: str) -> NamedWeight:
        return NamedWeight(self._constants(stored, name).graph, name, stored)

    def linear(self, x: Node, weight: Node, bias: Node | None = None) -> Node:
        if len(self.shape(x)) > 2:  # a single vector costs next to nothing, as the timestep's
            self._record(x, weight, axis=-1)
        return super().linear(x, weight, bias)

    def conv2d(
        self, x: Node, weight: Node, bias: Node | None, stride: int = 1, padding: Padding = (0, 0, 0, 0)
    ) -> Node:
        self._record(x, weight, axis=1)
        return super().conv2d(x, weight, bias, stride, padding)

    def conv2d_doubled(self, x: Node, weight: Node, bias: Node | None) -> Node:
        self._record(x, weight, axis=1)
        return super().conv2d_doubled(x, weight, bias)

    def _record(self, x: Node, weight: Node, axis: int) -> None:
        if isinstance(weight, NamedWeight) and min(weight.stored.shape[:2]) > FEW:
            read = self.read.setdefault(x.graph.get_name(), ObservedInput(x, axis))
            read.weights[weight.name] = weight.stored

    def seen(self) -> list[Any]:
        """Graph results for each input: each channel's minimum and maximum, and a sample of rows."""
        return [op.result(node.graph) for read in self.read.values() for node in self._of(read)]

    def _of(self, read: ObservedInput) -> tuple[Node, Node, Node]:
        x, shape = read.x, self.shape(read.x)
        if read.axis == 1:
            spread = self.reshape(x, (*shape[:2], -1))  # (B, C, pixels)
        else:
            spread = self.transpose(self.reshape(x, (shape[0], -1, shape[-1])), (0, 2, 1))
        places = self.shape(spread)[2]
        chosen = np.random.default_rng(places).permutation(places)[: max(1, ROWS // shape[0])]
        rows = Node(op.gather(spread.graph, integers(chosen), integers(2)))
        low, high = (
            Node(reduce(spread.graph, integers([0, 2]))) for reduce in (op.reduce_min, op.reduce_max)
        )
        return low, high, self.transpose(rows, (0, 2, 1))


def observe(
    function: Callable[..., Any], tensors: Mapping[str, Array], inputs: Inputs
) -> tuple[ov.Model, list[dict[str, Array]], Constants]:
    """Build the graph of a model function that returns one tensor, with further results for each input of
    products. Returns it with the weights of each input and the holder of the graph's constants."""
    constants = Constants()
    ops = ObservingOps(constants)
    model = build(function, View(tensors, bind=ops.bind), inputs, ops)
    model.add_results(ops.seen())
    return model, [read.weights for read in ops.read.values()], constants


def record_input(
    observations: Observations, weights: Mapping[str, Array], low: Array, high: Array, rows: Array
) -> None:
    """Add the statistics of one input from one evaluation. rows: (B, n, C)."""
    kept = rows.reshape(-1, rows.shape[-1]).astype(BFLOAT16)
    found = observations.setdefault(tuple(weights), InputStatistics(weights, low, high))
    found.see(low, high, kept)
