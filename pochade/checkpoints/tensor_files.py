"""A file of tensors in whatever format it is, told by its content: a suffix is only a name."""

from pathlib import Path

from pochade.checkpoints import safetensors
from pochade.checkpoints.safetensors import TensorFile

GGUF = b"GGUF"
BRACE = 8
"""Where the header of a safetensors file begins, after its length. A length may look like a pickle."""


def open_tensors(path: Path | str) -> TensorFile:
    """Map a safetensors file, one of `torch.save` or a GGUF file.

    Raises InvalidCheckpoint if it is none of these, or damaged.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            beginning = file.read(BRACE + 1)
    except OSError:
        return safetensors.read(path)  # which says what is wrong
    if beginning.startswith(GGUF):
        from pochade.checkpoints.gguf import read_gguf

        return read_gguf(path)
    if beginning[BRACE:] != b"{":
        from pochade.checkpoints.torch_files import is_torch_file, read_torch_file

        if is_torch_file(beginning):
            return read_torch_file(path)
    return safetensors.read(path)
