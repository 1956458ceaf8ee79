"""LoRA factors as inputs of a graph, so that another LoRA or another strength needs no new graph.

For a weight W with factors, a product computes `x W^T + (x down^T) up^T`. The graph's constants are those of
the plain model, whichever adapters are used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pochade.engines.openvino_import import op
from pochade.engines.openvino_int8 import Int8Ops, UnroundedWeight
from pochade.engines.openvino_ops import Array, Node, OpenVinoOps
from pochade.ops import Padding
from pochade.weights import FACTOR_DOWN, FACTOR_UP


@dataclass(frozen=True, eq=False)
class LoraWeight:
    """A bound weight and the LoRA factors added to it: down (R, I), up (O, R)."""

    weight: Node | UnroundedWeight
    down: Node
    up: Node


class LoraOps(Int8Ops):
    """`Int8Ops` for weights with LoRA factors. Call `take` with the factors before binding weights."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._factors: Mapping[str, Node] = {}

    def take(self, factors: Mapping[str, Node]) -> None:
        """Set the factors: graph inputs, named `FACTOR_DOWN` or `FACTOR_UP` plus the name of the weight."""
        self._factors = factors

    def bind(self, stored: Array, name: str) -> Any:
        bound = super().bind(stored, name)
        whole, _, rows = name.partition("[")
        if FACTOR_DOWN + whole not in self._factors:
            return bound
        down, up = self._factors[FACTOR_DOWN + whole], self._factors[FACTOR_UP + whole]
        if rows:
            begin, end = (int(number) for number in rows.rstrip("]").split(":"))
            up = self.narrow(up, 0, begin, end)
        return LoraWeight(bound, down, up)

    def linear(self, x: Node, weight: Any, bias: Node | None = None) -> Node:
        if not isinstance(weight, LoraWeight):
            return super().linear(x, weight, bias)
        between = OpenVinoOps.linear(self, x, weight.down)
        return super().linear(x, weight.weight, bias) + OpenVinoOps.linear(self, between, weight.up)

    def conv2d(
        self, x: Node, weight: Any, bias: Node | None, stride: int = 1, padding: Padding = (0, 0, 0, 0)
    ) -> Node:
        if not isinstance(weight, LoraWeight):
            return super().conv2d(x, weight, bias, stride, padding)
        # A 1x1 convolution without a stride is a product over the channels.
        batch, channels, height, width = self.shape(x)
        pixels = self.reshape(x, (batch, channels, height * width)).graph
        between = op.matmul(weight.down.graph, pixels, False, False)
        added = Node(op.matmul(weight.up.graph, between, False, False))
        y = super().conv2d(x, weight.weight, bias, stride, padding)
        return y + self.reshape(added, self.shape(y))
