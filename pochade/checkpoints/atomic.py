"""Files that appear whole or not at all.

A crash, a full disk or a killed process must not leave half a checkpoint under the name of a good one.
So everything is written beside its destination, flushed to the disk, and put in place by a rename.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pochade.errors import OutputError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file to write, which takes the place of `path` when the block ends without an error.

    Raises OutputError if the operating system refuses; `path` is then as it was before.
    """
    beside = hidden_neighbour(path)
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise OutputError(
            f"'{path}' could not be written: {error.strerror or error};"
            " is the folder there, writable, and is space left?"
        ) from error
    finally:
        with suppress(OSError):
            beside.unlink()


def hidden_neighbour(path: Path) -> Path:
    """An unused name in the folder of `path`: a rename within one folder is atomic."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")


def sync_folder(folder: Path) -> None:
    """Make a rename inside the folder durable, where the system can open a folder (Windows cannot)."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
