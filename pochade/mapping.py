"""Files as arrays of bytes that are read when they are looked at."""

import mmap
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import numpy.typing as npt


def map_file(file: IO[bytes]) -> npt.NDArray[Any]:
    """The bytes of an open file, (N,) uint8, mapped copy-on-write: writing into them never reaches the disk.

    The system is asked to read far ahead. Tensors lie one after another and each is looked through from its
    beginning, and by default systems read on so little at a time that a cold file comes at a third of the
    disk's speed (4 GB in 8.2 s, with this in 3.1 s).

    Raises OSError if the system refuses, ValueError for an empty file.
    """
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    if hasattr(mapped, "madvise") and hasattr(mmap, "MADV_SEQUENTIAL"):
        mapped.madvise(mmap.MADV_SEQUENTIAL)
    return np.frombuffer(mapped, np.uint8)


def moved_to_file(array: npt.NDArray[Any], folder: Path) -> npt.NDArray[Any]:
    """The same numbers in a file without a name, so that the system can take their pages when it needs them.

    The file is gone when nothing looks into it any more. Raises OSError if the folder cannot take it.
    """
    if array.nbytes == 0:
        return array
    with TemporaryFile(dir=folder) as file:
        file.write(np.ascontiguousarray(array).data)
        file.flush()
        return map_file(file).view(array.dtype).reshape(array.shape)


def let_go(array: npt.NDArray[Any]) -> None:
    """Give the pages behind an array back, if they are those of a mapped file.

    They are read again when looked at: for what has been copied elsewhere and is not needed soon. Nobody may
    have written into them: what was written would be lost.
    """
    mapped, address = _mapping(array)
    if mapped is None or not hasattr(mmap, "MADV_DONTNEED"):
        return
    start = array.__array_interface__["data"][0] - address
    first, last = -(-start // mmap.PAGESIZE), (start + array.nbytes) // mmap.PAGESIZE  # whole pages only
    if last > first:
        mapped.madvise(mmap.MADV_DONTNEED, first * mmap.PAGESIZE, (last - first) * mmap.PAGESIZE)


def _mapping(array: npt.NDArray[Any]) -> tuple[mmap.mmap | None, int]:
    """The mapped file that an array looks into, and the address where it begins."""
    root: Any = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    below = root.base.obj if isinstance(root.base, memoryview) else root.base
    return (below if isinstance(below, mmap.mmap) else None), root.__array_interface__["data"][0]
