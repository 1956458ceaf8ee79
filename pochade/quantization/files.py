"""Grids in a file: a safetensors file that holds the smoothing, with the rest as text beside it.

It belongs to one model, but to all of its sizes and ways of drawing, and is small: under a megabyte for
Stable Diffusion 1.5. Weights are not in it, since rounding them takes a moment.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pochade.checkpoints.safetensors import read, write
from pochade.errors import InvalidCheckpoint
from pochade.int8 import Grid
from pochade.quantization.choosing import Quantized, Table

FORMAT = "pochade int8 1"

Tables = Mapping[str, Table]
"""By component: 'unet', 'vae'."""


def save(path: Path, tables: Tables) -> None:
    """Write them whole or not at all. Raises OutputError."""
    tensors = {
        f"{part}.{name}": each.grid.smoothing.astype(np.float32)
        for part, table in tables.items()
        for name, each in table.items()
    }
    numbers = {
        part: {name: [each.grid.low, each.grid.high, each.error] for name, each in table.items()}
        for part, table in tables.items()
    }
    write(path, tensors, metadata={"format": FORMAT, "grids": json.dumps(numbers)})


def load(path: Path) -> Tables:
    """Raises InvalidCheckpoint, naming the file, if it is none of these or damaged."""
    file = read(path)
    if file.metadata.get("format") != FORMAT:
        raise InvalidCheckpoint(
            f"'{path}' holds no 8-bit grids of this version; make them with `pochade models quantize`"
        )
    try:
        numbers = json.loads(file.metadata["grids"])
        return {part: _table(file, part, table) for part, table in numbers.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidCheckpoint(
            f"'{path}' is damaged ({error}); make it again with `pochade models quantize`"
        ) from error


def _table(file: Mapping[str, Any], part: str, numbers: Mapping[str, Any]) -> Table:
    table = {}
    for name, (low, high, error) in numbers.items():
        smoothing = np.array(file[f"{part}.{name}"], np.float32)
        grid = Grid(float(low), float(high), smoothing)
        usable = smoothing.ndim == 1 and bool((smoothing > 0).all()) and bool(np.isfinite(smoothing).all())
        if not (usable and grid.low <= 0 <= grid.high and np.isfinite(grid.step) and grid.step > 0):
            raise ValueError(f"the grid of '{name}' is none")
        table[name] = Quantized(grid, float(error))
    return table
