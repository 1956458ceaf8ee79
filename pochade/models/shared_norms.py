"""Group norms with given statistics, so that tiles of a picture are normalised as one picture.

A group norm subtracts the mean of all pixels and divides by their deviation. The mean of a tile differs from
that of the whole picture, so a plain area would come out differently in each tile. `recording_statistics`
runs a model function on the downsampled picture and returns the statistics of its norms;
`with_given_statistics` runs it on a tile with these statistics.
"""

from collections.abc import Callable
from typing import Any

from pochade.ops import Ops, Tensor
from pochade.weights import View


def recording_statistics(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a model function for one picture that returns the statistics of its group norms in order:
    (2 * norms, groups), mean and deviation of each. All norms must have the same number of groups."""

    def measured(ops: Ops, config: Any, w: View, **inputs: Tensor) -> Tensor:
        observed = RecordingNorms(ops)
        function(observed, config, w, **inputs)
        return ops.concat(observed.found, axis=0)

    measured.__name__ = f"norms of {function.__name__}"
    return measured


def with_given_statistics(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a model function for one picture with a further input `statistics` for its group norms."""

    def shared(ops: Ops, config: Any, w: View, *, statistics: Tensor, **inputs: Tensor) -> Tensor:
        result: Tensor = function(GivenStatistics(ops, statistics), config, w, **inputs)
        return result

    shared.__name__ = f"{function.__name__} with norms"
    return shared


class RecordingNorms:
    """The operations `ops`; the statistics of its group norms are collected in `found`."""

    def __init__(self, ops: Ops) -> None:
        self.ops = ops
        self.found: list[Tensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ops, name)

    def group_norm(self, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        """As `Ops.group_norm`."""
        self.found += self.ops.group_statistics(x, groups, eps)
        return self.ops.group_norm(x, weight, bias, groups, eps)


class GivenStatistics:
    """The operations `ops`; its group norms take mean and deviation from `statistics`, one after another."""

    def __init__(self, ops: Ops, statistics: Tensor) -> None:
        self.ops = ops
        self._statistics = statistics
        self._next = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ops, name)

    def group_norm(self, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        """As `Ops.group_norm`, of one picture."""
        ops, shape = self.ops, self.ops.shape(x)
        mean, deviation = self._taken(groups), self._taken(groups)
        grouped = (ops.reshape(x, (1, groups, -1)) - mean) / deviation
        per_channel = (1, shape[1], 1, 1)
        scale, shift = ops.reshape(weight, per_channel), ops.reshape(bias, per_channel)
        return ops.reshape(grouped, shape) * scale + shift

    def _taken(self, groups: int) -> Tensor:
        """The next row: (1, groups, 1)."""
        row = self.ops.narrow(self._statistics, 0, self._next, self._next + 1)
        self._next += 1
        return self.ops.reshape(row, (1, groups, 1))
