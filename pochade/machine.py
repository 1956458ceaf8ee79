"""What a computer tells of itself without being asked by an engine."""

import os
from pathlib import Path


def memory_bytes() -> tuple[int, int] | None:
    """All of the memory and what is free of it, bytes; None where the system does not tell."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def usable_memory_bytes(cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The memory that this process may use, bytes: all of the computer's, or what its container may have.

    None where the system does not tell.
    """
    found = memory_bytes()
    limits = [] if found is None else [found[0]]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of the second version, of the first
        try:
            limits.append(int((cgroups / name).read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return min(limits, default=None)
