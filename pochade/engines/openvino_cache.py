"""The disk cache of compiled graphs: files are written once and mapped when they are read.

A stored file is the blob followed by a 32-byte seal. The seal is a hash of the length and of both ends of the
blob, where the graph is described. Hashing the whole blob would take longer than compiling again, so a
flipped bit among the weights is not detected, as in any checkpoint.
"""

import contextlib
import hashlib
import io
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pochade.mapping import map_file
from pochade.settings import CACHE_BUDGET_BYTES

SEAL_BYTES = 32
SEALED_HEAD_BYTES = 2**20
SEALED_TAIL_BYTES = 2**24
MARKS = 1000
"""How many names are remembered as used once. A mark is an empty file."""
STALE_AFTER_S = 3600.0
"""A partial file older than this was left by a process that ended while writing."""

SHAPE_GRAPHS = (
    "models/*.py",
    "configs/*.py",
    "engines/openvino*.py",
    "ops.py",
    "weights.py",
    "int8.py",
    "checkpoints/*.py",
    "adapters/*.py",
)
"""The model functions, the engine, their common modules, and the code that creates weights."""


@dataclass(frozen=True)
class BlobFolder:
    """A folder of files of at most `budget_bytes` in total; the least recently used are deleted first.

    Files that are being written count too. Any number of processes may share the folder. A file appears
    complete or not at all and is never changed. If a file cannot be written or read, only time is lost.
    """

    folder: Path
    budget_bytes: int = CACHE_BUDGET_BYTES
    _storing: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.blob"

    def holds(self, name: str) -> bool:
        return self.path(name).exists()

    def seen_before(self, name: str) -> bool:
        """Whether this method was called before with the name. The latest `MARKS` names are remembered."""
        mark = self.folder / f"{name}.seen"
        with contextlib.suppress(OSError):
            if mark.exists():
                return True
            self.folder.mkdir(parents=True, exist_ok=True)
            mark.touch()
            marks = sorted(self.folder.glob("*.seen"), key=lambda path: path.stat().st_mtime)
            for oldest in marks[:-MARKS]:
                oldest.unlink()
        return False

    def load(self, name: str) -> NDArray[np.uint8] | None:
        """Map a blob copy-on-write; None if it does not exist. A damaged blob is deleted."""
        path = self.path(name)
        try:
            with path.open("rb") as file:
                stored = map_file(file)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):  # unreadable, or empty
            self.discard(name)
            return None
        blob = stored[:-SEAL_BYTES]
        if stored[-SEAL_BYTES:].tobytes() != _seal(blob):
            self.discard(name)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used now; the access time is not kept on every system
        return blob

    def store(self, name: str, write: Callable[[IO[bytes]], None], *, expected_bytes: int = 0) -> bool:
        """Store what `write(file)` writes. If that fails, warn and return False.

        expected_bytes: the approximate size, so that space is freed before writing rather than after.
        """
        with self._storing:  # one after another: each makes room for itself alone
            return self._store(name, write, expected_bytes)

    def _store(self, name: str, write: Callable[[IO[bytes]], None], expected_bytes: int) -> bool:
        try:
            if expected_bytes > self.budget_bytes:
                raise OSError(f"about {expected_bytes:,} bytes are more than the cache may hold")
            self.folder.mkdir(parents=True, exist_ok=True)
            self._prune(expected_bytes, keep=self.path(name))
            handle, part = tempfile.mkstemp(dir=self.folder, prefix="writing-", suffix=".part")
            try:
                made = expected_bytes - SEAL_BYTES
                with _Growing(handle, made, partial(self._make_more, Path(part), name)) as file:
                    write(file)
                with open(part, "ab") as file:
                    file.write(_seal(np.memmap(part, mode="r", dtype=np.uint8)))
                if os.path.getsize(part) > self.budget_bytes:
                    raise OSError(f"{os.path.getsize(part):,} bytes are more than the cache may hold")
                os.replace(part, self.path(name))
            finally:
                Path(part).unlink(missing_ok=True)
            self._prune(keep=self.path(name))
        except OSError as error:
            warnings.warn(
                f"compiled graphs are not kept in {self.folder} ({error.strerror or error}), so every start "
                "compiles anew; set POCHADE_CACHE to a folder with space that can be written to",
                RuntimeWarning,
                stacklevel=3,
            )
            return False
        return True

    def _make_more(self, part: Path, name: str, size: int) -> None:
        """Free space for a file that grows beyond its expected size. Raises OSError if that is impossible."""
        if size + SEAL_BYTES > self.budget_bytes:
            raise OSError(f"{size + SEAL_BYTES:,} bytes are more than the cache may hold")
        self._prune(size + SEAL_BYTES - part.stat().st_size, keep=self.path(name))

    def discard(self, name: str) -> None:
        """Delete the file, if it exists and the system allows it."""
        with contextlib.suppress(OSError):
            self.path(name).unlink()

    def _prune(self, space: int = 0, *, keep: Path) -> None:
        """Delete files until the rest and `space` further bytes fit into the budget."""
        now, total = time.time(), space
        used: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process prunes too
                stat = path.stat()
                if path.suffix == ".part" and now - stat.st_mtime > STALE_AFTER_S:
                    path.unlink()
                elif path.suffix == ".part":
                    total += stat.st_size
                elif path.suffix == ".blob":
                    used.append((stat.st_mtime, stat.st_size, path))
        total += sum(size for _, size, _ in used)
        for _, size, path in sorted(used):
            if total <= self.budget_bytes:
                break
            if path != keep:
                with contextlib.suppress(OSError):  # on Windows a file in use stays
                    path.unlink()
                    total -= size


class _Growing(io.BufferedWriter):
    """A file that frees space before it grows beyond the space reserved for it.

    space: reserved bytes. more: frees space for a size in bytes, or raises.
    """

    def __init__(self, handle: int, space: int, more: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(handle, "wb"))
        self._room, self._more = space, more

    def write(self, data: Any) -> int:
        end = self.tell() + memoryview(data).nbytes
        if end > self._room:
            self._more(end)
            self._room = end
        return super().write(data)


class Sink(io.BytesIO):
    """A BytesIO that writes to a file: `export_model` accepts nothing else, and a real one would hold the
    blob.

    error: why writing stopped, since OpenVINO does not propagate exceptions.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._file = file

    def write(self, data: Any) -> int:
        return self._attempt(self._file.write, data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._attempt(self._file.seek, offset, whence)

    def _attempt(self, action: Callable[..., int], *arguments: Any) -> int:
        if self.error is None:
            try:
                return action(*arguments)
            except OSError as error:
                self.error = error
        return 0


def _seal(blob: NDArray[Any]) -> bytes:
    digest = hashlib.sha256(len(blob).to_bytes(8, "little"))
    digest.update(blob[:SEALED_HEAD_BYTES].data)
    digest.update(blob[-SEALED_TAIL_BYTES:].data)
    return digest.digest()


def sources() -> list[Path]:
    """The files whose change makes another graph of the same model."""
    package = Path(__file__).parents[1]
    return [path for pattern in SHAPE_GRAPHS for path in package.glob(pattern)]


def release() -> str:
    try:
        return metadata.version("pochade")
    except metadata.PackageNotFoundError:  # run from a checkout
        return ""
