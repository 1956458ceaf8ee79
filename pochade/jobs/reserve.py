"""Room on the disk that is set aside, so that things can be removed when there is no other.

SQLite writes what is deleted into its log first. On a disk that is full to the last page it could remove
nothing, and nobody could make room.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from pochade.jobs.storage import Storage

RESERVE_BYTES = 2**20
"""Hundreds of pages of the store; what removes one job changes about ten."""
ROOM = 2
"""The reserve is made where so many times its size is free."""


def keep_reserve(storage: Storage) -> None:
    """Set it aside, unless that was done, or there is too little room for it."""
    path = _file(storage)
    with suppress(OSError):
        if path.exists() or shutil.disk_usage(storage.root).free < ROOM * RESERVE_BYTES:
            return
        try:
            # Random, because file systems that compress would set nothing aside for zeros.
            path.write_bytes(os.urandom(RESERVE_BYTES))
        except OSError:
            path.unlink(missing_ok=True)


def give_up_reserve(storage: Storage) -> bool:
    """Whether there was one; what it took is free now."""
    try:
        _file(storage).unlink()
    except OSError:
        return False
    return True


def _file(storage: Storage) -> Path:
    return storage.root / "reserve"
