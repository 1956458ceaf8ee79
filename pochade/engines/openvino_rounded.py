"""Files of weights rounded to 8 bits, which later graphs of the same network (another size, another LoRA)
read.

A file is the length of its table (8 bytes, little-endian), the table as JSON, and the data: for each weight
its int8 values and then its f32 steps, each starting at a multiple of 64 bytes.
"""

import json
from collections.abc import Mapping
from math import prod
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Rounded = Mapping[str, tuple[NDArray[Any], NDArray[Any]]]
"""Name -> int8 (O, I, ...) and f32 steps (O, 1, ...), as `pochade.int8.round_weight` returns them."""

ALIGNED = 64


def write_rounded(file: IO[bytes], weights: Rounded) -> None:
    """Write rounded weights. Raises OSError if the file cannot be written."""
    table = json.dumps({name: rounded.shape for name, (rounded, _) in weights.items()}).encode()
    file.write(len(table).to_bytes(8, "little") + table)
    for rounded, steps in weights.values():
        for array in (rounded, steps):
            file.write(bytes(-file.tell() % ALIGNED))
            file.write(np.ascontiguousarray(array).data)


def bytes_of_rounded(weights: Rounded) -> int:
    """An upper estimate of what `write_rounded` writes."""
    described = sum(len(name) + 2 * ALIGNED for name in weights)
    return sum(rounded.nbytes + steps.nbytes for rounded, steps in weights.values()) + 2 * described


def read_rounded(stored: NDArray[np.uint8]) -> Rounded:
    """Read rounded weights as views. Raises ValueError if the file is damaged."""
    end = 8 + int.from_bytes(stored[:8].tobytes(), "little")
    table = json.loads(stored[8:end].tobytes().decode())
    weights = {}
    for name, shape in table.items():
        arrays = []
        for dtype, form in ((np.int8, shape), (np.float32, (shape[0], *[1] * (len(shape) - 1)))):
            begin = -(-end // ALIGNED) * ALIGNED
            end = begin + prod(form) * np.dtype(dtype).itemsize
            arrays.append(stored[begin:end].view(dtype).reshape(form))
        weights[name] = (arrays[0], arrays[1])
    return weights
