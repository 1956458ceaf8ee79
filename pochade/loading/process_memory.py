"""Measures the memory of a process.

Two kinds are distinguished: the process's own pages, and pages of mapped files, which the system can evict
and read again.
"""

import gc
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessMemory:
    """The memory of a process in bytes: its own pages, and pages of mapped files."""

    own: int
    files: int


def held(process: int | str = "self") -> ProcessMemory | None:
    """Return the current memory of a process; None if the system does not report it or the process has
    ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    table = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    if not all(len(table.get(name, ())) == 2 for name in ("RssAnon", "RssFile", "RssShmem")):
        return None
    own, files, shared = (int(table[name][0]) * 1024 for name in ("RssAnon", "RssFile", "RssShmem"))
    return ProcessMemory(own + shared, files)


def peak_bytes() -> int | None:
    """Return the peak memory of this process, of both kinds; None if the system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def release() -> None:
    """Return freed memory to the system, which otherwise stays with the process in fragments."""
    gc.collect()
    if sys.platform != "linux":
        return
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc; other libraries do this themselves
    if trim is not None:
        trim(0)
