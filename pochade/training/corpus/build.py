"""Building the training set from pinned packages. Resumable: what is done is not done again."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pochade.training.corpus.colours import dominant_colour
from pochade.training.corpus.concepts import LETTERS_AND_FLAGS, Concept, Dropped, read_concepts
from pochade.training.corpus.packages import Fetch, npm_pack, unpacked
from pochade.training.corpus.rendering import BrokenPicture, Draw, Picture, read_source
from pochade.training.corpus.sources import EMOJIBASE, SOURCES, Package, Source
from pochade.training.corpus.store import VERSION, Corpus, Entry, load, write_whole

Progress = Callable[[str, int, int], None]
"""Told the source's name, how many of its pictures are done, and how many there are."""


def silent(source: str, done: int, total: int) -> None:
    """Report nothing."""


def build(
    folder: str | Path,
    *,
    sources: Iterable[Source] = SOURCES,
    words: Package = EMOJIBASE,
    size: int = 128,
    dropped: Dropped = LETTERS_AND_FLAGS,
    progress: Progress = silent,
    fetch: Fetch = npm_pack,
) -> Corpus:
    """Download, draw and store the pictures of `sources` at `size` x `size` px; return the open set.

    A second call with the same arguments only opens it; after an interruption, finished sources are kept.
    Pictures that cannot be drawn are left out and listed in the manifest under "skipped".
    Raises MissingDependency (no npm, no resvg_py), DownloadError, UntrustedArchive.
    """
    folder, sources = Path(folder), tuple(sources)
    recipe = _recipe(sources, words, size, dropped)
    if _follows(folder / "manifest.json", recipe):
        return load(folder)
    folder.mkdir(parents=True, exist_ok=True)
    Path(folder, "manifest.json").unlink(missing_ok=True)  # what it vouches for is about to change
    concepts = {
        code: concept
        for code, concept in read_concepts(unpacked(words, folder / "packages", fetch)).items()
        if concept not in dropped
    }
    reports = {
        source.name: _build_source(
            folder, source, concepts, size, _recipe((source,), words, size, dropped), progress, fetch
        )
        for source in sources
    }
    entries = [entry for report in reports.values() for entry in report["entries"]]
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    write_whole(folder / "entries.jsonl", lines)
    manifest = {
        "version": VERSION,
        "size": size,
        "count": len(entries),
        "counts": {name: len(report["entries"]) for name, report in reports.items()},
        "skipped": {name: report["skipped"] for name, report in reports.items()},
        "recipe": recipe,
    }
    write_whole(folder / "manifest.json", json.dumps(manifest, ensure_ascii=False, indent=1))
    return load(folder)


def _recipe(sources: tuple[Source, ...], words: Package, size: int, dropped: Dropped) -> dict[str, Any]:
    """Everything that decides what is built, as JSON gives it back."""
    recipe = {
        "version": VERSION,
        "size": size,
        "words": asdict(words),
        "sources": [asdict(source) for source in sources],
        "dropped": {name: sorted(values) for name, values in asdict(dropped).items()},
    }
    return json.loads(json.dumps(recipe))  # type: ignore[no-any-return]


def _follows(path: Path, recipe: Mapping[str, Any]) -> bool:
    """Whether the JSON file was written at the end of a build with the same recipe."""
    try:
        return bool(json.loads(path.read_text("utf-8"))["recipe"] == recipe)
    except (OSError, ValueError, KeyError):
        return False


def _build_source(
    folder: Path,
    source: Source,
    concepts: Mapping[str, Concept],
    size: int,
    recipe: Mapping[str, Any],
    progress: Progress,
    fetch: Fetch,
) -> dict[str, Any]:
    """One source's array and its report {"recipe", "entries", "skipped"}, the report being written last."""
    report_path, array_path = folder / f"source-{source.name}.json", folder / f"pictures-{source.name}.npy"
    if _follows(report_path, recipe) and array_path.exists():
        return json.loads(report_path.read_text("utf-8"))  # type: ignore[no-any-return]
    report_path.unlink(missing_ok=True)

    found: dict[str, Draw] = {}
    for code, draw in read_source(source, unpacked(source.package, folder / "packages", fetch)):
        if code in concepts:
            found.setdefault(code, draw)
    pictures: list[Picture] = []
    entries: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for done, (code, draw) in enumerate(found.items()):
        progress(source.name, done, len(found))
        try:
            picture = draw(size)
        except BrokenPicture as broken:
            skipped[code] = str(broken)
            continue
        entry = _entry(source, concepts[code], picture, array_path.name, len(pictures))
        pictures.append(picture)
        entries.append(asdict(entry))
    progress(source.name, len(found), len(found))

    array = np.stack(pictures) if pictures else np.zeros((0, size, size, 4), np.uint8)
    partial = array_path.with_suffix(".partial.npy")
    np.save(partial, array)
    os.replace(partial, array_path)
    report = {"recipe": recipe, "skipped": skipped, "entries": entries}
    write_whole(report_path, json.dumps(report, ensure_ascii=False))
    return report


def _entry(source: Source, concept: Concept, picture: Picture, file: str, row: int) -> Entry:
    colour, share = dominant_colour(picture)
    return Entry(
        file=file,
        row=row,
        style=source.style,
        source=source.name,
        licence=source.package.licence,
        colour=colour,
        colour_share=round(share, 3),
        **asdict(concept),
    )
