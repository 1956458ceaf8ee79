"""Locates and recognises the file of 8-bit grids that comes with a model; `pochade.quantization.files` reads
it."""

from collections.abc import Mapping
from pathlib import Path

FORMAT = "pochade int8 2"
BESIDE = "int8.safetensors"
"""The file name of the grids in a model's folder. Next to a single file it is model.int8.safetensors."""


def grids_path(model: Path) -> Path:
    """Return the path of a model's grids. model: its folder or file."""
    return model / BESIDE if model.is_dir() else model.with_suffix(f".{BESIDE}")


def are_grids(metadata: Mapping[str, str]) -> bool:
    """Whether the metadata of a safetensors file say that it holds grids, of any version."""
    return metadata.get("format", "").startswith(FORMAT.rpartition(" ")[0])
