"""Fingerprints and hashes of weight files."""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pochade.atomic import replacing
from pochade.checkpoints.safetensors import TensorFile
from pochade.errors import InvalidCheckpoint, OutputError

SAMPLE_BYTES = 64


def fingerprint(files: Iterable[TensorFile], extra: bytes = b"") -> str:
    """Return 16 hex digits that change with the weights or with `extra` (a configuration): a cache key.

    A hash of the whole file would take seconds per gigabyte at every start. Instead it covers
    - path, size and modification time, which normally change when a file is replaced;
    - the header: names, shapes and types of the tensors;
    - 64 bytes from the middle of each tensor, which change when a training run or a merge rewrites a file
      with the same layout, even if the old modification time was preserved.
    It does not protect against deliberate forgery.
    """
    digest = hashlib.sha256(extra)
    for file in files:
        header = file.header
        digest.update(b"\0" + os.fsencode(header.path.resolve()))
        digest.update(f"\0{header.size}\0{header.modified_ns}\0".encode())
        digest.update(header.raw)
        for entry in header.entries.values():
            begin = header.data_start + max(entry.begin, (entry.begin + entry.end - SAMPLE_BYTES) // 2)
            end = header.data_start + min(entry.end, (entry.begin + entry.end + SAMPLE_BYTES) // 2)
            digest.update(file.mapped[begin:end].data)
    return digest.hexdigest()[:16]


def short_hash(path: Path | str) -> str:
    """Return the first 10 hex digits of the file's SHA-256, the "model hash" in pictures. Reads the whole
    file.

    Raises InvalidCheckpoint if the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:10]
    except OSError as error:
        raise InvalidCheckpoint(
            f"'{path}' cannot be read for its hash: {error.strerror or error}; check the path"
        ) from error


def cached_hash(path: Path, cache: Path) -> str:
    """Return `short_hash(path)`, cached in the JSON file `cache` by path, size and modification time.

    Raises InvalidCheckpoint if the file cannot be read. If the cache is damaged or cannot be written, the
    hash is computed again.
    """
    found = path.stat()
    key = f"{path.resolve()} {found.st_size} {found.st_mtime_ns}"
    known: dict[str, str] = {}
    with suppress(OSError, ValueError):
        loaded = json.loads(cache.read_text("utf-8"))
        known = loaded if isinstance(loaded, dict) else {}
    if isinstance(known.get(key), str):
        return known[key]
    known[key] = short_hash(path)
    with suppress(OSError, OutputError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        with replacing(cache) as file:
            file.write(json.dumps(known, indent=1).encode())
    return known[key]
