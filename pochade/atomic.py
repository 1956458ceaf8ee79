"""Files that appear whole or not at all.

A crash, a full disk or a killed process must not leave half a file under the name of a good one. So
everything is written beside its destination, flushed to the disk, and put in place by a rename.
"""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pochade.errors import OutputError

WAYS_OUT = {
    errno.ENOSPC: "free some space there, or choose another place",
    errno.EDQUOT: "free some space there, or choose another place",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.ENOTDIR: "choose a folder",
    errno.EEXIST: "choose a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file to write, which takes the place of `path` when the block ends without an error.

    Raises OutputError if the operating system refuses; `path` is then as it was before.
    """
    with _written_beside(path, put=Path.replace) as file:
        yield file


@contextmanager
def creating(path: Path) -> Iterator[BinaryIO]:
    """A new file to write, which appears as `path` when the block ends, if nothing else has that name.

    Raises FileExistsError if something has it, even if it came while this one was written; OutputError if
    the operating system refuses. In both cases nothing of this file is left.
    """
    with _written_beside(path, put=_claim) as file:
        yield file


def unwritable(path: Path, error: OSError) -> OutputError:
    """The error to raise when the operating system refused to write `path`."""
    way_out = WAYS_OUT.get(error.errno or 0, "is the folder there, writable, and is space left?")
    return OutputError(f"'{path}' could not be written: {error.strerror or error}; {way_out}")


def hidden_neighbour(path: Path) -> Path:
    """An unused name in the folder of `path`: a rename within one folder is atomic."""
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
def _written_beside(path: Path, put: Callable[[Path, Path], object]) -> Iterator[BinaryIO]:
    beside = hidden_neighbour(path)
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        put(beside, path)
        sync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            beside.unlink()


def _claim(beside: Path, path: Path) -> None:
    """Rename to a name that nothing has: only one process can create it, and that one may replace it.

    A hard link would do both at once, but the file systems of memory cards have none.
    """
    path.open("xb").close()
    try:
        beside.replace(path)
    except BaseException:
        path.unlink()
        raise
