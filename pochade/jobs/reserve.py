"""Reserved disk space, so that data can be removed even if the disk is full.

SQLite writes deletions to its log first, so on a completely full disk nothing could be deleted.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from pochade.jobs.storage import Storage

RESERVE_BYTES = 2**20
"""Hundreds of database pages; removing one job changes about ten."""
ROOM = 2
"""The reserve is created when this many times its size is free."""


def keep_reserve(storage: Storage) -> None:
    """Create the reserve unless it exists or there is too little free space."""
    path = _file(storage)
    with suppress(OSError):
        if path.exists() or shutil.disk_usage(storage.root).free < ROOM * RESERVE_BYTES:
            return
        try:
            # Random, because compressing file systems would reserve no space for zeros.
            path.write_bytes(os.urandom(RESERVE_BYTES))
        except OSError:
            path.unlink(missing_ok=True)


def release_reserve(storage: Storage) -> bool:
    """Delete the reserve, which frees its space. Returns whether it existed."""
    try:
        _file(storage).unlink()
    except OSError:
        return False
    return True


def _file(storage: Storage) -> Path:
    return storage.root / "reserve"
