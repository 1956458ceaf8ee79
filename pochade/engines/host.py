"""The methods shared by all engines that compute on host arrays."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class HostArrays:
    """The methods of an engine that the denoise loop calls between two evaluations, for numpy arrays.

    Engines that keep their arrays on a device implement these methods themselves.
    joins: whether computing a UNet and its ControlNets in one function is faster.
    """

    joins = False

    def place(self, array: Any) -> Array:
        """Copy a host array to the engine's device, as f32."""
        return np.asarray(array, np.float32)

    def fetch(self, array: Any) -> Array:
        """Copy an array back to the host: the inverse of `place`."""
        return np.asarray(array, np.float32)

    def join(self, parts: Sequence[Any], axis: int = 0) -> Array:
        """Concatenate placed arrays along an axis."""
        return np.concatenate(parts, axis)

    def repeated(self) -> Self:
        """Return this engine for functions that are called many times with inputs of the same shapes."""
        return self

    def pictures_at_once(self, numbers: int) -> int:
        """How many pictures of a batch to evaluate together: one, which already keeps a processor busy.

        numbers: elements of the largest activation for one picture, all of its conditionings included.
        """
        return 1
