"""What a computer tells of itself without being asked by an engine."""

import os


def memory_bytes() -> tuple[int, int] | None:
    """All of the memory and what is free of it, bytes; None where the system does not tell."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
