"""The interface of an engine: it compiles functions for fixed input shapes and moves arrays to its device."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from pochade.int8 import Grids, Observations
from pochade.ops import Shape, Tensor

Array = NDArray[Any]
Inputs = Mapping[str, tuple[Shape, str]]


class Engine(Protocol):
    """An engine on one device in one precision.

    Some engines have further attributes, which callers look up by name: `bounds_sides`, `takes_factors`,
    `keeps` and `copies_weights` of the OpenVINO engine.
    """

    @property
    def precision(self) -> str:
        """The precision of weights and arithmetic: 'f32', 'bf16' or 'f16'."""
        ...

    @property
    def joins(self) -> bool:
        """Whether computing a denoiser and its ControlNets in one function is faster."""
        ...

    def with_f32_range(self) -> "Engine":
        """Return this engine in a precision with the range of f32: itself, unless it computes in f16."""
        ...

    def repeated(self) -> "Engine":
        """Return this engine for functions that are called many times with inputs of the same shapes."""
        ...

    def place(self, array: Any) -> Tensor:
        """Copy a host array to the engine's device, as f32."""
        ...

    def fetch(self, array: Any) -> Array:
        """Copy an array back to the host: the inverse of `place`."""
        ...

    def join(self, parts: Sequence[Any], axis: int = 0) -> Tensor:
        """Concatenate placed arrays along an axis."""
        ...

    def pictures_at_once(self, numbers: int) -> int:
        """How many pictures of a batch to evaluate together.

        numbers: elements of the largest activation for one picture, all of its conditionings included.
        """
        ...

    def compile(
        self,
        function: Callable[..., Any],
        tensors: Mapping[str, Array],
        inputs: Inputs,
        *,
        key: str = "",
        weights_key: str = "",
        on_second_use: bool = False,
    ) -> Callable[..., Any]:
        """Compile `function(ops, w, ...)` into a callable that takes its inputs as keyword arrays.

        inputs: argument name -> (static shape, 'f32' or 'i64'). key: identifies function and weights, for
        engines that cache compiled graphs on disk. weights_key: identifies the weights alone. on_second_use:
        cache the graph only when it is compiled for the second time.
        """
        ...


class QuantizingEngine(Engine, Protocol):
    """An engine that computes 8-bit products (see `pochade.int8`)."""

    @property
    def grids(self) -> Grids:
        """The grids of 8-bit products, by the name of the weight."""
        ...

    def quantized(self, grids: Grids) -> Engine:
        """Return this engine with 8-bit products where there are grids."""
        ...

    def observing(self, observations: Observations) -> Engine:
        """Return this engine, recording in `observations` the inputs of products."""
        ...
