"""Model hashes, remembered: reading four gigabytes for ten digits is worth doing once."""

import json
from contextlib import suppress
from pathlib import Path

from pochade.atomic import replacing
from pochade.checkpoints.fingerprint import short_hash
from pochade.errors import OutputError


def remembered_hash(path: Path, memory: Path) -> str:
    """`short_hash(path)`, kept in the JSON file `memory` under path, size and modification time.

    Raises InvalidCheckpoint if the file cannot be read. A memory that is damaged, or cannot be written, only
    costs the time of hashing again.
    """
    found = path.stat()
    key = f"{path.resolve()} {found.st_size} {found.st_mtime_ns}"
    known: dict[str, str] = {}
    with suppress(OSError, ValueError):
        loaded = json.loads(memory.read_text("utf-8"))
        known = loaded if isinstance(loaded, dict) else {}
    if isinstance(known.get(key), str):
        return known[key]
    known[key] = short_hash(path)
    with suppress(OSError, OutputError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        with replacing(memory) as file:
            file.write(json.dumps(known, indent=1).encode())
    return known[key]
