"""Atomic file writes.

A crash, a full disk or a killed process must not leave half a file under the final name. So each file is
written next to its destination, flushed to disk, and renamed.
"""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pochade.errors import OutputError

ADVICE = {
    errno.ENOSPC: "free some disk space, or choose another folder",
    errno.EDQUOT: "free some disk space, or choose another folder",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.ENOTDIR: "choose a folder",
    errno.EEXIST: "choose a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that replaces `path` when the block ends without an error.

    Raises OutputError if the operating system refuses; `path` is then unchanged.
    """
    with _written_next_to(path, put=Path.replace) as file:
        yield file


@contextmanager
def creating(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that appears as `path` when the block ends, unless that name is taken.

    Raises FileExistsError if the name is taken, even if that happened while this file was written, and
    OutputError if the operating system refuses. In both cases this file is removed.
    """
    with _written_next_to(path, put=_claim) as file:
        yield file


def unwritable(path: Path, error: OSError) -> OutputError:
    """Return the error to raise when the operating system refused to write `path`."""
    advice = ADVICE.get(
        error.errno or 0, "check that the folder exists and is writable, and that the disk is not full"
    )
    return OutputError(f"'{path}' could not be written: {error.strerror or error}; {advice}")


def hidden_neighbour(path: Path) -> Path:
    """Return an unused name in the folder of `path`, where a rename to `path` is atomic."""
    return path.with_name(f".{secrets.token_hex(8)}.part")


def sync_folder(folder: Path) -> None:
    """Make a rename inside the folder durable, where the system can open a folder (Windows cannot)."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _written_next_to(path: Path, put: Callable[[Path, Path], object]) -> Iterator[BinaryIO]:
    temporary = hidden_neighbour(path)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        put(temporary, path)
        sync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _claim(temporary: Path, path: Path) -> None:
    """Rename to an unused name: only one process can create the name, and that process may replace it.

    A hard link would do both at once, but FAT file systems do not support them.
    """
    path.open("xb").close()
    try:
        temporary.replace(path)
    except BaseException:
        path.unlink()
        raise
