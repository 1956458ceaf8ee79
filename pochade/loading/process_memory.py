"""How much memory a process takes, as the system tells it.

Two kinds are told apart: the process's own pages, which nobody can take from it, and pages of mapped files,
which the system takes back when it needs room and reads again.
"""

import gc
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessMemory:
    """Bytes of a process's own and of mapped files."""

    own: int
    files: int


def held(process: int | str = "self") -> ProcessMemory | None:
    """What a process holds now; None where the system does not say, or if it has ended."""
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
    """The most that this process held so far, of both kinds; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def release() -> None:
    """Give back what has been let go: freed memory stays with the process otherwise, in pieces."""
    gc.collect()
    if sys.platform != "linux":
        return
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; others give back by themselves
    if trim is not None:
        trim(0)
