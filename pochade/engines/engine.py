"""What an engine is to its users: functions compiled for inputs of fixed shapes, and arrays between."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from pochade.int8 import Grids, Sightings
from pochade.ops import Shape, Tensor

Array = NDArray[Any]
Inputs = Mapping[str, tuple[Shape, str]]


class Engine(Protocol):
    """An engine on one device in one precision.

    Some have more, which callers look for by name: `bounds_sides`, `takes_factors`, `keeps` and
    `copies_weights` of OpenVINO's.
    """

    @property
    def precision(self) -> str:
        """Of weights and arithmetic: 'f32', 'bf16' or 'f16'."""
        ...

    @property
    def joins(self) -> bool:
        """Whether a denoiser is best computed in one function with its ControlNets."""
        ...

    def wider(self) -> "Engine":
        """This engine in a precision with the range of f32: itself, unless it computes in f16."""
        ...

    def repeated(self) -> "Engine":
        """This engine for functions that are called many times with inputs of the same shapes."""
        ...

    def place(self, array: Any) -> Tensor:
        """An array of the host, as f32, where the engine computes."""
        ...

    def fetch(self, array: Any) -> Array:
        """The inverse of `place`."""
        ...

    def join(self, parts: Sequence[Any], axis: int = 0) -> Tensor:
        """Placed arrays, one after another along an axis."""
        ...

    def pictures_at_once(self, numbers: int) -> int:
        """How many pictures of a batch are best evaluated together.

        numbers: in the largest activation of one picture, its conditionings included.
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
        """A callable that takes the inputs as keyword arrays and returns what `function(ops, w, ...)` does.

        inputs: argument name -> (static shape, 'f32' or 'i64'). key: names function and weights uniquely, for
        engines that keep compiled graphs on the disk. weights_key: names the weights alone. on_second_use:
        keep it there only once it is compiled for the second time.
        """
        ...


class QuantizingEngine(Engine, Protocol):
    """An engine that computes 8-bit products (see `pochade.int8`)."""

    @property
    def grids(self) -> Grids:
        """Of 8-bit products, by the name of the weight."""
        ...

    def quantized(self, grids: Grids) -> Engine:
        """This engine with 8-bit products where there are grids."""
        ...

    def watching(self, sightings: Sightings) -> Engine:
        """This engine, noting what products read."""
        ...
