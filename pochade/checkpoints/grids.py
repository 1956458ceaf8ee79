"""Locates and identifies the file of 8-bit grids of a model; `pochade.quantization.files` reads it."""

from collections.abc import Mapping
from pathlib import Path

FORMAT = "pochade int8 2"
FILE_NAME = "int8.safetensors"
"""The file name of the grids in a model's folder. Next to a single file it is model.int8.safetensors."""


def grids_path(model: Path) -> Path:
    """Return the path of a model's grids. model: its folder or file."""
    return model / FILE_NAME if model.is_dir() else model.with_suffix(f".{FILE_NAME}")


def are_grids(metadata: Mapping[str, str]) -> bool:
    """Return whether the metadata of a safetensors file identify it as grids, of any version."""
    return metadata.get("format", "").startswith(FORMAT.rpartition(" ")[0])
