"""Memory-mapped files as arrays of bytes."""

import mmap
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import numpy.typing as npt


def map_file(file: IO[bytes]) -> npt.NDArray[Any]:
    """Map an open file copy-on-write as (N,) uint8: writes never reach the disk.

    The system is asked for a large read-ahead, since tensors are read sequentially. With the default
    read-ahead a cold file is read at a third of the disk's speed (4 GB in 8.2 s instead of 3.1 s).

    Raises OSError if the system refuses, ValueError for an empty file.
    """
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    if hasattr(mapped, "madvise") and hasattr(mmap, "MADV_SEQUENTIAL"):
        mapped.madvise(mmap.MADV_SEQUENTIAL)
    return np.frombuffer(mapped, np.uint8)


def moved_to_file(array: npt.NDArray[Any], folder: Path) -> npt.NDArray[Any]:
    """Copy an array to an unnamed file and map it, so that the system can evict its pages when memory is
    short.

    The file is deleted with the last reference to it. Raises OSError if it cannot be written to the folder.
    """
    if array.nbytes == 0:
        return array
    with TemporaryFile(dir=folder) as file:
        file.write(np.ascontiguousarray(array).data)
        file.flush()
        return map_file(file).view(array.dtype).reshape(array.shape)


def release_pages(array: npt.NDArray[Any]) -> None:
    """Release the memory pages of an array that lies in a mapped file.

    The pages are read again when they are accessed. The array must not have been written to: changes would be
    lost.
    """
    mapped, address = _mapping(array)
    if mapped is None or not hasattr(mmap, "MADV_DONTNEED"):
        return
    start = array.__array_interface__["data"][0] - address
    first, last = -(-start // mmap.PAGESIZE), (start + array.nbytes) // mmap.PAGESIZE  # whole pages only
    if last > first:
        mapped.madvise(mmap.MADV_DONTNEED, first * mmap.PAGESIZE, (last - first) * mmap.PAGESIZE)


def _mapping(array: npt.NDArray[Any]) -> tuple[mmap.mmap | None, int]:
    """The mapped file behind an array, and the address where it begins."""
    root: Any = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    below = root.base.obj if isinstance(root.base, memoryview) else root.base
    return (below if isinstance(below, mmap.mmap) else None), root.__array_interface__["data"][0]
