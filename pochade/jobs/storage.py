"""The files of a server. They are written atomically, and files without a row are removed.

    DIR/jobs.sqlite                                the store
    DIR/outputs/2026-11-24/20261124-5f0c6a1e9b.1-0.png   pictures, with their parameters in them
    DIR/inputs/20261124-5f0c6a1e9b-0               a picture sent with a job, until the job ends
    DIR/workers/NAME                               locked by the worker of that name while it runs
    DIR/lock                                       locked by the server
    DIR/reserve                                    released when the disk is full, see `reserve`

File names are made from the ids of jobs, never from data of a client.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pochade.atomic import replacing, unwritable
from pochade.errors import InUse, OutputError
from pochade.images.files import Sign, save_picture
from pochade.images.marks import GENERATED
from pochade.jobs.records import FinishedPicture, Job, Lease

if TYPE_CHECKING:
    from PIL import Image

ID = re.compile(r"\d{8}-[0-9a-f]{10}")
PART = re.compile(r"\.[0-9a-f]{16}\.part")
"""Suffix of partial files of `pochade.atomic`."""


@dataclass(frozen=True)
class Storage:
    root: Path

    @property
    def database(self) -> Path:
        return self.root / "jobs.sqlite"

    @property
    def outputs(self) -> Path:
        return self.root / "outputs"

    @property
    def inputs(self) -> Path:
        return self.root / "inputs"

    def make(self) -> "Storage":
        """Create the folders, readable by their user only. Raises OutputError."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.outputs, self.inputs, self.root / "workers"):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise unwritable(self.root, error) from error
        return self

    def worker(self, name: str) -> Path:
        return self.root / "workers" / name

    def output(self, path: str) -> Path:
        return self.outputs / path


def new_id(now: float, random: Callable[[int], str]) -> str:
    """Return a new id: "20261124-5f0c6a1e9b". random: n -> n random bytes as hexadecimal,
    `secrets.token_hex`."""
    return f"{time.strftime('%Y%m%d', time.gmtime(now))}-{random(5)}"


# --- pictures out -------------------------------------------------------------------------------------------


def keep_picture(
    storage: Storage,
    lease: Lease,
    number: int,
    image: "Image.Image",
    text: str,
    seed: int,
    prompt: str,
    *,
    mark: str | None = GENERATED,
    sign: Sign | None = None,
) -> FinishedPicture:
    """Write a picture's file, before it has a row. Raises OutputError."""
    job = lease.job
    day = f"{job.id[:4]}-{job.id[4:6]}-{job.id[6:8]}"
    # Each attempt has different names, so that a late one cannot overwrite the files of another.
    path = f"{day}/{job.id}.{job.attempts}-{number}.png"
    save_picture(image, storage.output(path), text, mark=mark, sign=sign)
    size = storage.output(path).stat().st_size
    return FinishedPicture(
        path=path,
        width=image.width,
        height=image.height,
        seed=seed,
        text=text,
        prompt=prompt,
        bytes=size,
    )


def discard(storage: Storage, paths: "list[str]") -> None:
    """Remove the files of pictures that have no rows."""
    for path in paths:
        with suppress(OSError):
            storage.output(path).unlink()


def sweep(storage: Storage, known: Callable[[str], bool], at_work: Callable[[str], bool]) -> int:
    """Remove files without rows and partial files, left by a crash. Return their number.

    known: whether a picture's path has a row. at_work: whether a job is waiting or running; its files are
    kept. Files with other names are ignored.
    """
    removed = 0
    for folder, pattern in ((storage.outputs, "*/*"), (storage.inputs, "*")):
        for file in folder.glob(pattern):
            found = ID.match(file.name)
            if found is None and not PART.fullmatch(file.name):
                continue
            if found is not None and (at_work(found[0]) or known(file.relative_to(folder).as_posix())):
                continue
            with suppress(OSError):
                file.unlink()
                removed += 1
    return removed


# --- pictures in --------------------------------------------------------------------------------------------


def keep_input(storage: Storage, job: str, number: int, content: bytes) -> None:
    """Write a picture sent with a job, before the job is accepted. Raises OutputError."""
    with replacing(storage.inputs / f"{job}-{number}") as file:
        file.write(content)


def read_input(storage: Storage, job: Job, number: int) -> bytes:
    """Read a picture sent with a job. Raises OutputError if it is missing."""
    try:
        return (storage.inputs / f"{job.id}-{number}").read_bytes()
    except OSError as error:
        raise OutputError(f"an input picture of job '{job.id}' is missing: {error.strerror}") from error


def drop_inputs(storage: Storage, job: str) -> None:
    """Remove the pictures sent with a job that has ended."""
    for file in storage.inputs.glob(f"{job}-*"):
        with suppress(OSError):
            file.unlink()


# --- locks ---------------------------------------------------------------------------------------------


@contextmanager
def alive(path: Path) -> Iterator[None]:
    """Hold a lock that the operating system releases when this process ends, however it ends.

    Raises InUse if another process holds it.
    """
    with path.open("ab") as file:
        if not _lock(file.fileno()):
            raise InUse(f"'{path.parent}' is in use by another server; stop that one, or give another --data")
        yield


def is_dead(path: Path) -> bool:
    """Return whether the process that held the lock has ended; False if the system cannot detect it."""
    try:
        with path.open("ab") as file:
            return CAN_LOCK and _lock(file.fileno())
    except OSError:
        return False


try:
    import fcntl
except ImportError:  # Windows: a dead worker is detected by its expired lease
    CAN_LOCK = False

    def _lock(handle: int) -> bool:
        return True

else:
    CAN_LOCK = True

    def _lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
