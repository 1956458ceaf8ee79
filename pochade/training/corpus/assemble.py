"""Assembles a training set from sources: shards, manifest, notice, and the list of skipped pictures."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pochade.atomic import unwritable
from pochade.errors import InvalidRequest, PochadeError
from pochade.training.corpus.contact_sheets import style_sheet
from pochade.training.corpus.samples import Progress, Stream
from pochade.training.corpus.shards import Shard, write_stream
from pochade.training.corpus.store import VERSION, Corpus, load, write_atomically

SIZES = range(16, 4097)
"""The allowed sizes of a training set, px."""


class NothingUsable(PochadeError):
    """The training set would be empty; the message lists what was found instead."""


def check_numbers(size: int, jobs: int) -> None:
    """Raise InvalidRequest for an invalid size or number of jobs."""
    if size not in SIZES:
        raise InvalidRequest(f"size {size} px is not between {SIZES[0]} and {SIZES[-1]}")
    if jobs < 1:
        raise InvalidRequest(f"jobs is {jobs}; it must be at least 1")


def assemble(
    folder: Path, streams: Iterable[Stream], *, size: int, kind: str, jobs: int, progress: Progress
) -> Corpus:
    """Write the missing parts of the training set and open it.

    Finished shards are kept, so an interrupted run resumes; a complete set is only opened.
    Raises NothingUsable if no picture can be used, InvalidRequest if the folder contains something else,
    OutputError if it cannot be written.
    """
    streams = tuple(streams)
    recipe = {stream.name: dict(stream.recipe) for stream in streams}
    before = _manifest(folder)
    _check_folder(folder, before)
    if before.get("version") == VERSION and before.get("recipe") == recipe:
        with suppress(PochadeError):  # damaged: missing parts are built again
            return load(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        Path(folder, "manifest.json").unlink(missing_ok=True)  # it must not describe an incomplete set
    except OSError as error:
        raise unwritable(folder, error) from error
    made = {stream.name: write_stream(folder, stream, jobs=jobs, progress=progress) for stream in streams}
    _write_skipped(folder, made)
    sources = {stream.name: {**stream.about, **_report(made[stream.name])} for stream in streams}
    shards = [shard for shards in made.values() for shard in shards if shard.file]
    if not shards:
        raise NothingUsable(_nothing(folder, sources))
    write_atomically(folder / "NOTICE", notice(sources))
    manifest = {
        "version": VERSION,
        "kind": kind,
        "size": size,
        "count": sum(len(shard.entries) for shard in shards),
        "sources": sources,
        "shards": [
            {"file": shard.file, "bytes": shard.bytes, "pictures": len(shard.entries)} for shard in shards
        ],
        "recipe": recipe,
    }
    write_atomically(folder / "manifest.json", json.dumps(manifest, ensure_ascii=False, indent=1))
    _remove_leftovers(folder, before, manifest)
    corpus = load(folder)
    style_sheet(corpus, folder / "contact-sheet.png")
    return corpus


def _check_folder(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raise InvalidRequest for a folder that contains anything but a training set."""
    try:
        names = {path.name for path in folder.iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise unwritable(folder, error) from error
    begun = "manifest.json" not in names and names & {"shards", "packages", "skipped.jsonl"}
    if names and not begun and not {"version", "count"} <= manifest.keys():
        raise InvalidRequest(
            f"'{folder}' is not empty and holds no training set; choose a new or an empty folder"
        )


def notice(sources: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the licences and credits of the pictures in a training set."""
    lines = ["This training set holds pictures from:", ""]
    for name, source in sources.items():
        lines.append(f"{name}: {source['pictures']} pictures")
        lines.extend(f"  {key}: {source[key]}" for key in ("from", "licence", "credit") if source.get(key))
        if not source.get("licence"):
            lines.append("  licence: unknown; it is that of the imported pictures")
    lines += ["", "They were rendered, cropped or resized; nothing else was changed.", ""]
    return "\n".join(lines)


def _report(shards: Iterable[Shard]) -> dict[str, Any]:
    entries = [entry for shard in shards for entry in shard.entries]
    reasons = Counter(skip["reason"] for shard in shards for skip in shard.skipped)
    return {
        "pictures": len(entries),
        "held_out": sum(entry.get("split") == "held-out" for entry in entries),
        "skipped": reasons.total(),
        "reasons": dict(reasons.most_common()),
    }


def _write_skipped(folder: Path, made: Mapping[str, Iterable[Shard]]) -> None:
    lines = (
        json.dumps({"source": name, **skip}, ensure_ascii=False) + "\n"
        for name, shards in made.items()
        for shard in shards
        for skip in shard.skipped
    )
    write_atomically(folder / "skipped.jsonl", "".join(lines))


def _nothing(folder: Path, sources: Mapping[str, Mapping[str, Any]]) -> str:
    reasons: Counter[str] = Counter()
    for source in sources.values():
        reasons.update(source["reasons"])
    found = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common())
    return (
        f"no picture with a caption can be used: {found or 'none found'}. Each is listed in "
        f"'{folder / 'skipped.jsonl'}'. A caption is in a text file of the same name (cat.jpg, cat.txt), "
        "in a JSON-lines file (file_name, text), in a parquet file or in a webdataset tar"
    )


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(Path(folder, "manifest.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _remove_leftovers(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Delete shards of the previous set that are not part of this one."""
    kept = {shard["file"] for shard in now["shards"]}
    for shard in before.get("shards", ()):
        path = Path(folder, shard["file"])
        if shard["file"] not in kept and path.resolve().is_relative_to(folder.resolve()):
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
