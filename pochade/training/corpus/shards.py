"""Write the shards of a source. Finished shards are kept, and a later run resumes after the last one."""

import json
import re
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from io import BytesIO
from itertools import count, islice
from pathlib import Path
from typing import Any

from pochade.atomic import replacing
from pochade.training.corpus.samples import Item, Progress, Sample, Stream, Unusable
from pochade.training.corpus.store import VERSION, CorpusEntry, write_atomically

SHARDS = "shards"
SHARD_PICTURES = 1000
POSITION_FIELDS = ("file", "row", "offset", "length")
"""Fields of an entry that are only in the index."""


@dataclass(frozen=True)
class Shard:
    """One finished shard.

    file: below the set's folder; empty if no picture was usable.
    after: number of items of the source up to its end.  last: whether it is the last one.
    """

    file: str
    bytes: int
    after: int
    last: bool
    entries: tuple[dict[str, Any], ...]
    skipped: tuple[dict[str, str], ...]


def digest(recipe: Any) -> str:
    """Return a short hash of a recipe."""
    return sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:32]


def write_stream(folder: Path, stream: Stream, *, jobs: int, progress: Progress) -> list[Shard]:
    """Write the missing shards of the source and return all of them.

    jobs: number of threads.
    Raises OutputError if the folder cannot be written.
    """
    recipe = digest({"version": VERSION, **stream.recipe})
    shards = _finished_shards(folder, stream.name, recipe)
    if shards and shards[-1].last:
        return shards
    Path(folder, SHARDS).mkdir(parents=True, exist_ok=True)
    _remove_shards(folder, stream.name, first=len(shards))
    total, items = stream.open()
    start = shards[-1].after if shards else 0
    row = sum(len(shard.entries) for shard in shards)
    results = results_of(islice(items, start, None), jobs)
    done = start
    while not (shards and shards[-1].last):
        base = f"{SHARDS}/{stream.name}-{len(shards):06d}"
        path = Path(folder, base + ".tar")
        entries: list[dict[str, Any]] = []
        skipped: list[dict[str, str]] = []
        last = True
        with (
            replacing(path) as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for name, result in results:
                done += 1
                progress(stream.name, done, total)
                if isinstance(result, Unusable):
                    skipped.append({"name": name, "reason": result.reason, "detail": result.detail})
                    continue
                entries.append(_append(tar, result, base + ".tar", row).to_json())
                row += 1
                if len(entries) == SHARD_PICTURES:
                    last = False
                    break
        if not entries:
            path.unlink()
        shard = Shard(
            base + ".tar" if entries else "",
            path.stat().st_size if entries else 0,
            done,
            last,
            tuple(entries),
            tuple(skipped),
        )
        _write_index(path.with_suffix(".json"), recipe, shard)
        shards.append(shard)
    return shards


def results_of(items: Iterable[Item], jobs: int) -> Iterator[tuple[str, Sample | Unusable]]:
    """Yield each item's name with its sample or error, in order."""
    if jobs == 1:
        yield from ((item.name, _made(item)) for item in items)
        return
    with ThreadPoolExecutor(jobs) as pool:
        waiting: deque[tuple[str, Future[Sample | Unusable]]] = deque()
        try:
            for item in items:
                waiting.append((item.name, pool.submit(_made, item)))
                if len(waiting) >= 2 * jobs:
                    name, future = waiting.popleft()
                    yield name, future.result()
            for name, future in waiting:
                yield name, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _made(item: Item) -> Sample | Unusable:
    try:
        return item.make()
    except Unusable as unusable:
        return unusable


def _append(tar: tarfile.TarFile, sample: Sample, file: str, row: int) -> CorpusEntry:
    """Add a picture and its metadata; return the entry with its position."""
    metadata = {name: value for name, value in sample.entry.to_json().items() if name not in POSITION_FIELDS}
    offset = _add(tar, f"{row:06d}.{sample.suffix}", sample.content)
    _add(tar, f"{row:06d}.json", json.dumps(metadata).encode())
    return replace(sample.entry, file=file, row=row, offset=offset, length=len(sample.content))


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> int:
    """Add a file without owner and time, so that equal sets have equal bytes. Return its content's offset."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    offset = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(member, BytesIO(content))
    return offset


def _write_index(path: Path, recipe: str, shard: Shard) -> None:
    index = {
        "version": VERSION,
        "recipe": recipe,
        "file": shard.file,
        "bytes": shard.bytes,
        "after": shard.after,
        "last": shard.last,
        "skipped": shard.skipped,
        "entries": shard.entries,
    }
    write_atomically(path, json.dumps(index, ensure_ascii=False))


def _finished_shards(folder: Path, name: str, recipe: str) -> list[Shard]:
    """Return the source's consecutive finished shards that have the same recipe."""
    shards: list[Shard] = []
    for number in count():
        try:
            index = json.loads(Path(folder, SHARDS, f"{name}-{number:06d}.json").read_text("utf-8"))
            if index["recipe"] != recipe:
                break
            shard = Shard(
                index["file"],
                index["bytes"],
                index["after"],
                index["last"],
                tuple(index["entries"]),
                tuple(index["skipped"]),
            )
            if shard.file and Path(folder, shard.file).stat().st_size != shard.bytes:
                break
        except (OSError, ValueError, KeyError, TypeError):
            break
        shards.append(shard)
        if shard.last:
            break
    return shards


def _remove_shards(folder: Path, name: str, first: int) -> None:
    """Delete the source's shards from number `first` on, and partial files of killed runs."""
    for path in Path(folder, SHARDS).glob(".*.part"):
        if re.fullmatch(r"\.[0-9a-f]{16}\.part", path.name):
            path.unlink()
    for path in Path(folder, SHARDS).glob(f"{name}-??????.*"):
        number = path.stem.removeprefix(f"{name}-")
        if path.suffix in (".tar", ".json") and number.isdecimal() and int(number) >= first:
            path.unlink()
