"""Reads and writes 8-bit grids: a safetensors file with the smoothing as tensors and the rest as metadata.

A file belongs to one model and serves all picture sizes. It is small, under a megabyte for Stable Diffusion
1.5; weights are not stored, since rounding them is fast.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pochade.checkpoints.grids import FORMAT
from pochade.checkpoints.safetensors import Array, read, write
from pochade.errors import InvalidCheckpoint
from pochade.int8 import Grid
from pochade.quantization.fit_grids import Quantized, Table

SAMPLE = 16
"""How many numbers of each tensor are hashed to identify a model."""

Tables = Mapping[str, Table]
"""Component, 'unet' or 'vae' -> its grids."""


@dataclass(frozen=True)
class StoredGrids:
    """The content of a file. marks: component -> hash of the weights that its grids were fitted to (see
    `mark`)."""

    tables: Tables
    marks: Mapping[str, str]


def mark(tensors: Mapping[str, Array]) -> str:
    """Return 16 hex digits that identify weights, independently of their file and of f32 or f16 storage.

    They are a hash of each tensor's name, shape and a few numbers from its middle.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        flat = tensors[name].reshape(-1)
        middle = flat[max(0, len(flat) - SAMPLE) // 2 :][:SAMPLE]
        with np.errstate(over="ignore"):
            sample = np.asarray(middle, np.float16)
        digest.update(f"{name} {tensors[name].shape} ".encode() + sample.tobytes())
    return digest.hexdigest()[:16]


def save(path: Path, kept: StoredGrids) -> None:
    """Write grids atomically. Raises OutputError."""
    tables = kept.tables
    tensors = {
        f"{part}.{name}": each.grid.smoothing.astype(np.float32)
        for part, table in tables.items()
        for name, each in table.items()
    }
    numbers = {
        part: {name: [each.grid.low, each.grid.high, each.error] for name, each in table.items()}
        for part, table in tables.items()
    }
    texts = {"format": FORMAT, "grids": json.dumps(numbers), "marks": json.dumps(dict(kept.marks))}
    write(path, tensors, metadata=texts)


def load(path: Path) -> StoredGrids:
    """Read grids. Raises InvalidCheckpoint, naming the file, if it is damaged or not a file of grids."""
    file = read(path)
    if file.metadata.get("format") != FORMAT:
        raise InvalidCheckpoint(
            f"'{path}' holds no 8-bit grids of this version; make them with `pochade models quantize`"
        )
    try:
        numbers = json.loads(file.metadata["grids"])
        marks = {str(part): str(each) for part, each in json.loads(file.metadata["marks"]).items()}
        return StoredGrids({part: _table(file, part, table) for part, table in numbers.items()}, marks)
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
            raise ValueError(f"the grid of '{name}' is invalid")
        table[name] = Quantized(grid, float(error))
    return table
