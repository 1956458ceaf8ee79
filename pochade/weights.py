"""A view of named tensors: how a model function reaches its weights.

A model asks for a weight by name *and shape*, where it uses it: `w("weight", (320, 4, 3, 3))`. That one
line declares the parameter (training creates it, tests fill it), checks it (a checkpoint whose tensor has
another shape is named), and fetches it. There is no second list of shapes to keep in step.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pochade.errors import InvalidCheckpoint
from pochade.ops import Shape, Tensor

FACTOR_DOWN, FACTOR_UP = "down of ", "up of "
"""Inputs of an engine's function with these names and that of a weight (O, I) or (O, I, 1, 1) are low-rank
factors, (R, I) and (O, R): the function computes with the weight plus `up @ down`. Only engines that say so
(`takes_factors`) take them."""


def keep(tensor: Any, name: str) -> Any:
    """Bind nothing: the stored tensor is already the engine's own."""
    return tensor


@dataclass(frozen=True)
class View:
    """The tensors whose names begin with `prefix`.

    `w / "mid_block" / "resnets.0"` is the view one level down; `w("conv1.weight", shape)` fetches.

    tensors: name -> stored tensor (a mapped numpy array, a torch parameter, ...).
    bind:    turns a stored tensor into the engine's value (a graph constant, a tensor on the device), and
             is told its name; of rows, as "ff.net.0.proj.weight[0:1280]".
    """

    tensors: Mapping[str, Any]
    bind: Callable[[Any, str], Tensor] = keep
    prefix: str = ""

    def __truediv__(self, name: str | int) -> "View":
        return replace(self, prefix=f"{self.prefix}{name}.")

    def __call__(self, name: str, shape: Shape, rows: slice | None = None) -> Tensor:
        """The tensor `prefix + name`, which must have this shape; with `rows`, only that part of axis 0.

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
    """Several sets of tensors as one: "unet.conv_in.weight" is "conv_in.weight" of the part "unet"."""

    parts: Mapping[str, Mapping[str, Any]]

    def __getitem__(self, name: str) -> Any:
        part, _, rest = name.partition(".")
        return self.parts[part][rest]

    def __iter__(self) -> Iterator[str]:
        return (f"{part}.{name}" for part, tensors in self.parts.items() for name in tensors)

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))
