"""Checks the files of a pulled model against the hashes recorded when it was pulled.

The record (`own_folder.record_of`) holds the hash of each file as stated by the hub and verified after the
download: SHA-256, or git's SHA-1 for small files.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pochade.checkpoints.own_folder import read_record
from pochade.errors import InvalidCheckpoint

HASHED_BYTES = 2**24
SHA256_DIGITS = 64


def pulled_files(path: Path) -> dict[Path, str]:
    """Return each file of a pulled model with its recorded hash; empty for other models."""
    files = read_record(path).get("files")
    if not isinstance(files, dict):
        return {}
    recorded = {name: digest for name, digest in files.items() if isinstance(digest, str) and digest}
    if path.is_dir():
        return {path / name: digest for name, digest in recorded.items()}
    return dict.fromkeys([path], next(iter(recorded.values()))) if len(recorded) == 1 else {}


def check_record(path: Path) -> Iterator[int]:
    """Compare every file with its recorded hash; yields the number of bytes read since the last yield.

    Raises InvalidCheckpoint, naming the file, if one is missing or has changed.
    """
    for file, expected in pulled_files(path).items():
        try:
            size = file.stat().st_size
            digest = hashlib.sha256() if len(expected) == SHA256_DIGITS else hashlib.sha1(b"blob %d\0" % size)
            with file.open("rb") as content:
                while chunk := content.read(HASHED_BYTES):
                    digest.update(chunk)
                    yield len(chunk)
        except OSError as error:
            raise InvalidCheckpoint(f"'{file}' cannot be read: {error.strerror or error}") from error
        if digest.hexdigest() != expected:
            raise InvalidCheckpoint(
                f"'{file}' has changed since it was pulled: its hash is {digest.hexdigest()[:16]}..., the"
                f" recorded one {expected[:16]}...; remove the model and pull it again"
            )
