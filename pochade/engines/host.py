"""What engines that work on arrays of the host have in common."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class HostArrays:
    """The part of an engine that a denoise loop needs between two evaluations.

    An engine whose numbers stay on a device has a kind of arrays of its own there; for others it is numpy's.
    joins: whether a UNet is best computed in one function with its ControlNets.
    """

    joins = False

    def place(self, array: Any) -> Array:
        """An array of the host, as f32, where the engine computes."""
        return np.asarray(array, np.float32)

    def fetch(self, array: Any) -> Array:
        """The inverse of `place`."""
        return np.asarray(array, np.float32)

    def join(self, parts: Sequence[Any], axis: int = 0) -> Array:
        """Placed arrays, one after another along an axis."""
        return np.concatenate(parts, axis)

    def repeated(self) -> Self:
        """This engine for functions that are called many times with inputs of the same shapes."""
        return self

    def pictures_at_once(self, numbers: int) -> int:
        """How many pictures of a batch are best evaluated together; of a processor it is busy with one.

        numbers: in the largest activation of one picture, its conditionings included.
        """
        return 1
