"""Downloads a file from the hub: partial downloads are kept and resumed, and the hash is verified at the
end."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pochade.atomic import sync_folder, unwritable
from pochade.hub.hub_api import BrokenConnection, HubError, RemoteFile, RemoteModel, opened

HASHED_BYTES = 2**24
ATTEMPTS = 5
"""The most consecutive attempts without a new byte."""
PART = ".part"
PARTIAL_CONTENT = 206


def download_file(
    model: RemoteModel, file: RemoteFile, folder: Path, pause: Callable[[float], object] = time.sleep
) -> Iterator[int]:
    """Download a file into `folder`, under its own path; yields the growth of the local file in bytes.

    Until the file is complete and its hash is verified, its name ends in ".part". A partial file is resumed.
    A negative number means that a partial file was discarded.

    pause: waits for a number of seconds before another attempt.

    Raises HubError if the hub refuses, or if the content is wrong; OutputError if the file cannot be written.
    """
    target = folder / file.path
    if target.is_file() and target.stat().st_size == file.size:  # verified before the rename
        yield file.size
        return
    part = target.with_name(target.name + PART)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as out:
            yield from _completing(model, file, out, pause)
            out.flush()
            os.fsync(out.fileno())
        yield from _checked(file, part)
        part.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise unwritable(part, error) from error


def local_bytes(file: RemoteFile, folder: Path) -> int:
    """Return how many bytes of a file exist locally."""
    target = folder / file.path
    for path in (target, target.with_name(target.name + PART)):
        if path.is_file():
            return min(path.stat().st_size, file.size)
    return 0


def _completing(
    model: RemoteModel, file: RemoteFile, out: Any, pause: Callable[[float], object]
) -> Iterator[int]:
    """Append the missing bytes."""
    have = out.seek(0, os.SEEK_END)
    if have > file.size:
        have = out.truncate(0)
    yield have
    failures = 0
    while have < file.size:
        try:
            with opened(model, file, have) as answer:
                if have and answer.status_code != PARTIAL_CONTENT:  # the hub sends the whole file
                    yield -have
                    have = out.truncate(0)
                for (
                    chunk
                ) in answer.iter_raw():  # unbuffered: buffered bytes would be lost if the connection breaks
                    have += out.write(chunk)
                    if have > file.size:
                        raise HubError(f"'{file.path}' is longer than the expected {file.size:,} bytes")
                    failures = 0
                    yield len(chunk)
            if have < file.size:
                raise BrokenConnection("the connection was closed early")
        except BrokenConnection as error:
            failures += 1
            if failures == ATTEMPTS:
                raise BrokenConnection(
                    f"'{file.path}' broke off at {have:,} of {file.size:,} bytes: {error}. The partial"
                    " file is kept; pull again to resume"
                ) from error
            out.flush()
            for _ in range(2**failures):
                yield 0  # so that the caller can cancel
                pause(1.0)


def _checked(file: RemoteFile, part: Path) -> Iterator[int]:
    """Verify the hash: SHA-256, or git's SHA-1 for small files. A wrong file is removed."""
    if file.sha256 is not None:
        digest, expected = hashlib.sha256(), file.sha256
    elif file.blob is not None:
        digest, expected = hashlib.sha1(b"blob %d\0" % file.size), file.blob
    else:
        return
    with part.open("rb") as whole:
        while chunk := whole.read(HASHED_BYTES):
            digest.update(chunk)
            yield 0  # so that the caller can cancel
    if digest.hexdigest() != expected:
        part.unlink()
        actual = digest.hexdigest()
        raise HubError(
            f"'{file.path}' has the hash {actual[:16]}..., but the hub states {expected[:16]}...: the"
            " download was damaged and has been removed; pull it again"
        )
