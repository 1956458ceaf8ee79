"""Pictures whose edges fit together: beyond an edge, convolutions read what stands at the opposite one."""

from collections.abc import Callable
from typing import Any

from pochade.ops import Ops, Padding, Tensor


def seamless(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A model function on the same vocabulary, but for its convolutions, which pad by going round."""

    def going_round(ops: Ops, *arguments: Any, **inputs: Any) -> Tensor:
        return function(GoingRound(ops), *arguments, **inputs)

    going_round.__name__ = f"seamless {function.__name__}"
    return going_round


class GoingRound:
    """The vocabulary `ops`; its convolutions pad with the pixels of the opposite edge in place of zeros."""

    def __init__(self, ops: Ops) -> None:
        self.ops = ops

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ops, name)

    def conv2d(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, padding: Padding = (0, 0, 0, 0)
    ) -> Tensor:
        """As `Ops.conv2d`."""
        return self.ops.conv2d(self._padded(x, padding), weight, bias, stride)

    def conv2d_doubled(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As `Ops.conv2d_doubled`."""
        doubled = self.ops.conv2d_doubled(self._padded(x, (1, 1, 1, 1)), weight, bias)
        rows, columns = self.ops.shape(doubled)[2:]
        return self.ops.narrow(self.ops.narrow(doubled, 2, 2, rows - 2), 3, 2, columns - 2)

    def _padded(self, x: Tensor, padding: Padding) -> Tensor:
        top, bottom, left, right = padding
        return self._longer(self._longer(x, 2, top, bottom), 3, left, right)

    def _longer(self, x: Tensor, axis: int, before: int, after: int) -> Tensor:
        length = self.ops.shape(x)[axis]
        parts = [x]
        if before:
            parts.insert(0, self.ops.narrow(x, axis, length - before, length))
        if after:
            parts.append(self.ops.narrow(x, axis, 0, after))
        return self.ops.concat(parts, axis) if len(parts) > 1 else x
