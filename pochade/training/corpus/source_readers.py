"""Read the pictures of an unpacked package with their concepts."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pochade.training.corpus.clip_art import read_clip_art
from pochade.training.corpus.concepts import Concept, Dropped, mirrorable, name_slug, plain_code
from pochade.training.corpus.rendering import PackagedPicture, from_file, from_icon
from pochade.training.corpus.sources import CorpusSource
from pochade.training.corpus.tiles import read_tiles


@dataclass(frozen=True)
class WordLists:
    """Concepts by code, and codes by the slugs of their names."""

    concepts: Mapping[str, Concept]
    names: Mapping[str, str]
    dropped: Dropped


def read_source(source: CorpusSource, folder: Path, words: WordLists) -> Iterator[PackagedPicture]:
    """Yield the usable pictures of an unpacked package."""
    return READERS[source.kind](folder, words)


def _files(folder: Path, words: WordLists) -> Iterator[PackagedPicture]:
    """Read packages with one picture file per code point in `assets/`."""
    paths = {plain_code(path.stem): path for path in sorted(Path(folder, "assets").iterdir(), reverse=True)}
    for code, path in sorted(paths.items()):
        yield from _known(code, partial(from_file, path), words)


def _iconify(folder: Path, words: WordLists) -> Iterator[PackagedPicture]:
    """Read packages of @iconify-json: SVG bodies in `icons.json`, code points in `chars.json`."""
    icons, chars = _json(folder / "icons.json"), _json(folder / "chars.json")
    names = {plain_code(code): name for code, name in sorted(chars.items(), reverse=True)}
    for code, name in sorted(names.items()):
        yield from _known(code, partial(from_icon, icons, name), words)


NO_PICTURES = re.compile(
    r"-(?:dark|light|medium|medium-dark|medium-light)(?:-skin-tone)?(?:-|$)"
    r"|^(?:letter|digit|keycap|up|unknown|pound)-|^(?:[abo]|ab)-button$|^\d+$|exclamation-mark"
)
"""Names that are skin tones or letters, and are skipped."""


def _slugs(folder: Path, words: WordLists) -> Iterator[PackagedPicture]:
    """Like `_iconify`, for packages without code points.

    Names and aliases are looked up among the labels and short names of emoji; "astronaut-2" is another
    picture of "astronaut". An unknown name becomes the label.
    """
    icons = _json(folder / "icons.json")
    aliases: dict[str, list[str]] = {}
    for alias, target in icons.get("aliases", {}).items():
        aliases.setdefault(target["parent"], []).append(alias)
    codes = set()
    for name in sorted(icons["icons"]):
        base = re.sub(r"-\d$", "", name)
        others = sorted(aliases.get(name, ()))
        known = (
            words.names.get(each)
            for each in (name, base, *others, base.replace("-face", ""), base.removeprefix("person-"))
        )
        code = next((each for each in known if each), None)
        if code is not None and (code not in codes or base != name):
            codes.add(code)
            yield from _known(code, partial(from_icon, icons, name), words, name)
        elif code is None and not NO_PICTURES.search(name):
            concept = _unknown(base)
            if concept not in words.dropped:
                yield PackagedPicture(name, concept, partial(from_icon, icons, name))


def _unknown(slug: str) -> Concept:
    label = slug.replace("-", " ")
    group = "flags" if label.startswith("flag ") else "other"
    return Concept(
        code=name_slug(label),
        emoji="",
        label=label,
        tags=(),
        group=group,
        subgroup="",
        mirrorable=mirrorable(label, group, ""),
    )


def _known(code: str, draw: Any, words: WordLists, name: str = "") -> Iterator[PackagedPicture]:
    concept = words.concepts.get(code)
    if concept is not None and concept not in words.dropped:
        yield PackagedPicture(name or code, concept, draw)


def _tiles(folder: Path, words: WordLists) -> Iterator[PackagedPicture]:
    return read_tiles(folder)


def _clip_art(folder: Path, words: WordLists) -> Iterator[PackagedPicture]:
    known = {
        word
        for concept in words.concepts.values()
        if concept not in words.dropped
        for text in (concept.label, *concept.tags)
        for word in re.findall(r"[a-z'-]+", text)
    }
    return read_clip_art(folder, known)


def _json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


READERS: Mapping[str, Callable[[Path, WordLists], Iterator[PackagedPicture]]] = MappingProxyType(
    {"files": _files, "iconify": _iconify, "slugs": _slugs, "tiles": _tiles, "clip art": _clip_art}
)
