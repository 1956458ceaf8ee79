"""Circular padding for seamless pictures: beyond an edge, convolutions read pixels from the opposite edge."""

from collections.abc import Callable
from typing import Any

from pochade.ops import Ops, Padding, Tensor

ROWS, COLUMNS = 2, 3
"""Axes of (B, C, H, W)."""
BOTH = (ROWS, COLUMNS)


def seamless(function: Callable[..., Tensor], axes: tuple[int, ...] = BOTH) -> Callable[..., Tensor]:
    """Return the model function with circular padding in its convolutions.

    axes: the axes that are padded circularly; the others are padded with zeros.
    """
    if not axes:
        return function

    def going_round(ops: Ops, *arguments: Any, **inputs: Any) -> Tensor:
        return function(SeamlessOps(ops, axes), *arguments, **inputs)

    along = "" if axes == BOTH else f" along {axes[0]}"
    going_round.__name__ = f"seamless{along} {function.__name__}"
    return going_round


class SeamlessOps:
    """The operations `ops` with convolutions that pad with the pixels of the opposite edge instead of
    zeros."""

    def __init__(self, ops: Ops, axes: tuple[int, ...] = BOTH) -> None:
        self.ops = ops
        self.axes = axes

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ops, name)

    def conv2d(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, padding: Padding = (0, 0, 0, 0)
    ) -> Tensor:
        """As `Ops.conv2d`."""
        top, bottom, left, right = padding
        zeros = (
            *((0, 0) if ROWS in self.axes else (top, bottom)),
            *((0, 0) if COLUMNS in self.axes else (left, right)),
        )
        return self.ops.conv2d(self._padded(x, padding), weight, bias, stride, zeros)

    def conv2d_doubled(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As `Ops.conv2d_doubled`."""
        doubled = self.ops.conv2d_doubled(self._padded(x, (1, 1, 1, 1)), weight, bias)
        for axis in self.axes:
            doubled = self.ops.narrow(doubled, axis, 2, self.ops.shape(doubled)[axis] - 2)
        return doubled

    def _padded(self, x: Tensor, padding: Padding) -> Tensor:
        top, bottom, left, right = padding
        if ROWS in self.axes:
            x = self._longer(x, ROWS, top, bottom)
        return self._longer(x, COLUMNS, left, right) if COLUMNS in self.axes else x

    def _longer(self, x: Tensor, axis: int, before: int, after: int) -> Tensor:
        length = self.ops.shape(x)[axis]
        parts = [x]
        if before:
            parts.insert(0, self.ops.narrow(x, axis, length - before, length))
        if after:
            parts.append(self.ops.narrow(x, axis, 0, after))
        return self.ops.concat(parts, axis) if len(parts) > 1 else x
