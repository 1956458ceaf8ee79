"""The compiled attention kernel as an operation of OpenVINO's graphs.

OpenVINO never frees an operation that is defined in Python, because its C++ and Python objects refer to each
other. Each operation keeps its inputs alive, and with them a copy of the network's weights for every graph
that was ever compiled. So the operations of a graph are collected while it is built, and detached from their
inputs when the graph is no longer used.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from pochade.engines.attention_kernel import VERSION, WIDEST, load_kernel
from pochade.engines.openvino_import import op, ov

LONG: Mapping[str, int] = MappingProxyType({"bf16": 256, "bytes": 256, "f32": 2048})
"""The number of keys from which the kernel is faster than OpenVINO's fused attention, by the type of products
(docs/performance.md)."""


@dataclass(frozen=True)
class KernelUse:
    """How a graph calls the kernel. products: one of `attention_kernel.PRODUCTS`. threads: 0 means one for
    each processor that the process may use."""

    products: str = "bf16"
    threads: int = 0

    @property
    def numbers(self) -> str:
        """The element type of inputs and result."""
        return "f32" if self.products == "f32" else "bf16"

    def serves(self, keys: int, dim: int) -> bool:
        return keys >= LONG[self.products] and dim <= WIDEST

    def __str__(self) -> str:
        return f"kernel {VERSION}, {self.products}, {self.threads} threads"


Operations = list["TokenAttention"]

_making = threading.local()


@contextmanager
def collecting() -> Iterator[Operations]:
    """Collect the operations that this thread creates, and the copies that OpenVINO makes of them later."""
    before = getattr(_making, "operations", None)
    found: Operations = []
    _making.operations = found
    try:
        yield found
    finally:
        _making.operations = before


def cut_off(operations: Operations) -> None:
    """Detach these operations from their inputs, which frees the inputs. Their graph must not be used
    again."""
    while operations:
        operation = operations.pop()
        for index in range(operation.get_input_size()):
            empty = op.constant(np.zeros((1, 1, 1), np.float32))
            operation.set_argument(index, empty.output(0))


class TokenAttention(ov.Op):  # type: ignore[misc]
    """(B, T, N * D), (B, S, N * D), (B, S, N * D) -> (B, T, N * D), in bf16 or f32."""

    def __init__(
        self, inputs: Sequence[Any] | None = None, *, heads: int = 1, use: KernelUse | None = None
    ) -> None:
        super().__init__(self, inputs) if inputs is not None else super().__init__(self)
        use = use or KernelUse()
        self._attributes: dict[str, Any] = {
            "heads": heads,
            "products": use.products,
            "threads": use.threads,
        }
        self._collected: Operations | None = getattr(_making, "operations", None)
        if self._collected is not None:
            self._collected.append(self)

    def validate_and_infer_types(self) -> None:
        self.set_output_type(0, self.get_input_element_type(0), self.get_input_partial_shape(0))

    def clone_with_new_inputs(self, inputs: Sequence[Any]) -> "TokenAttention":
        copy = TokenAttention(inputs)
        copy._attributes = dict(self._attributes)
        if copy._collected is not self._collected:  # made by another thread of OpenVINO's
            if copy._collected is not None:
                copy._collected.remove(copy)
            copy._collected = self._collected
            if copy._collected is not None:
                copy._collected.append(copy)
        return copy

    def visit_attributes(self, visitor: Any) -> bool:
        """Declare the attributes that are saved with a compiled graph."""
        visitor.on_attributes(self._attributes)
        return True

    def has_evaluate(self) -> bool:
        return True

    def evaluate(self, outputs: Sequence[Any], inputs: Sequence[Any]) -> bool:
        """Compute the result; OpenVINO calls this from one of its threads."""
        kernel = load_kernel()
        if kernel is None:
            return False
        query, key, value = inputs
        batch, queries, width = query.shape
        heads = self._attributes["heads"]
        kernel.run(
            *(tensor.data.ctypes.data for tensor in (query, key, value, outputs[0])),
            numbers="bf16" if query.element_type == ov.Type.bf16 else "f32",
            products=self._attributes["products"],
            sizes=(batch, heads, queries, key.shape[1], width // heads),
            threads=self._attributes["threads"],
        )
        return True
