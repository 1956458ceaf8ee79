"""A file of tensors in whatever format it is, told by its content: a suffix is only a name."""

from pathlib import Path

from pochade.checkpoints import safetensors
from pochade.checkpoints.safetensors import TensorFile


def open_tensors(path: Path | str) -> TensorFile:
    """Map a file of tensors. Raises InvalidCheckpoint if it is none, or is damaged."""
    return safetensors.read(path)
