"""Adapter files with random factors, as trainers write them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pochade.adapters.deltas import Delta
from pochade.checkpoints import safetensors

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write({"key": shape or array}, metadata={...}, name="x.safetensors")` -> the file."""

    def make(
        tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None, name: str = "ink.safetensors"
    ) -> Path:
        rng = np.random.default_rng(len(tensors))
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {
            key: rng.standard_normal(value, np.float32) if isinstance(value, tuple) else np.asarray(value)
            for key, value in tensors.items()
        }
        safetensors.write(path, arrays, metadata)
        return path

    return make


def whole_change(delta: Delta, base: Any) -> Any:
    """Return the change of the weight `base` (at least one axis) at strength 1, in its shape."""
    return delta.by_rows(base)(0, len(base)).reshape(base.shape)
