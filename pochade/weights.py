"""Views of named tensors, through which model functions access their weights.

A model asks for a weight by name *and shape* where it uses it: `w("weight", (320, 4, 3, 3))`. That line
declares the parameter (training creates it), checks it (a tensor of another shape is an error that names it),
and fetches it. So there is no second list of shapes to maintain.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pochade.errors import InvalidCheckpoint
from pochade.ops import Shape, Tensor

FACTOR_DOWN, FACTOR_UP = "down of ", "up of "
"""Prefixes of the inputs that are low-rank factors (R, I) and (O, R) of a weight (O, I) or (O, I, 1, 1): the
function computes with the weight plus `up @ down`. Only engines with `takes_factors` accept them."""


def keep(tensor: Any, name: str) -> Any:
    """Return the stored tensor, which is already of the engine's type."""
    return tensor


@dataclass(frozen=True)
class View:
    """The tensors whose names begin with `prefix`.

    `w / "mid_block" / "resnets.0"` is the view one level down; `w("conv1.weight", shape)` fetches.

    tensors: name -> stored tensor (a mapped numpy array, a torch parameter, ...).
    bind:    converts a stored tensor and its name to the engine's type (a graph constant, a tensor on the
             device); the name of a part is "ff.net.0.proj.weight[0:1280]".
    """

    tensors: Mapping[str, Any]
    bind: Callable[[Any, str], Tensor] = keep
    prefix: str = ""

    def __truediv__(self, name: str | int) -> "View":
        return replace(self, prefix=f"{self.prefix}{name}.")

    def __call__(self, name: str, shape: Shape, rows: slice | None = None) -> Tensor:
        """Fetch the tensor `prefix + name`, which must have this shape; with `rows`, only these rows of axis
        0.

        Raises InvalidCheckpoint, naming the tensor, if it is missing or has another shape.
        """
        full = self.prefix + name
        tensor = self.tensors.get(full)
        if tensor is None:
            raise InvalidCheckpoint(f"tensor '{full}' {shape} is missing from the weights")
        if tuple(tensor.shape) != shape:
            raise InvalidCheckpoint(
                f"tensor '{full}' has shape {tuple(tensor.shape)}; the configuration says {shape}"
            )
        if rows is None:
            return self.bind(tensor, full)
        return self.bind(tensor[rows], f"{full}[{rows.start}:{rows.stop}]")


@dataclass(frozen=True, eq=False)
class Parts(Mapping[str, Any]):
    """Joins sets of tensors: "unet.conv_in.weight" is "conv_in.weight" of the part "unet"."""

    parts: Mapping[str, Mapping[str, Any]]

    def __getitem__(self, name: str) -> Any:
        part, _, rest = name.partition(".")
        return self.parts[part][rest]

    def __iter__(self) -> Iterator[str]:
        return (f"{part}.{name}" for part, tensors in self.parts.items() for name in tensors)

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))
