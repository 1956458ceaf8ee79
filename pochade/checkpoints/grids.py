"""Where 8-bit grids lie that come with a model, and how their file is told from others'. What is in it:
`pochade.quantization.files`."""

from collections.abc import Mapping
from pathlib import Path

FORMAT = "pochade int8 2"
BESIDE = "int8.safetensors"
"""The name of a model's grids in its folder; beside a single file, model.int8.safetensors."""


def grids_beside(model: Path) -> Path:
    """Where the grids of a model lie. model: its folder or file."""
    return model / BESIDE if model.is_dir() else model.with_suffix(f".{BESIDE}")


def are_grids(metadata: Mapping[str, str]) -> bool:
    """Whether a safetensors file holds grids, of any version."""
    return metadata.get("format", "").startswith(FORMAT.rpartition(" ")[0])
