"""Concepts of emoji: label, tags, group, and whether they may be mirrored."""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Concept:
    """An emoji without skin tone.

    code: the code points in lower-case hexadecimal, joined by dashes, without variation selectors.
    mirrorable: whether the label is still true of a horizontally mirrored picture.
    translations: the label in the languages of LANGUAGES.
    """

    code: str
    emoji: str
    label: str
    tags: tuple[str, ...]
    group: str
    subgroup: str
    mirrorable: bool
    translations: tuple[str, ...] = ()


LANGUAGES = ("fr", "de", "es")
"""Languages of translated labels, besides English."""


def word_set(text: str, separator: str | None = None) -> frozenset[str]:
    """Split a text into a set of words."""
    return frozenset(text.split(separator))


LETTERED_LABELS = """back arrow|end arrow|on! arrow|soon arrow|top arrow|atm sign|copyright|registered\
|trade mark|part alternation mark|name badge|japanese symbol for beginner|no one under eighteen"""


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """Excluded concepts: letters instead of pictures, and flags, whose origin is unclear."""

    groups: frozenset[str] = frozenset({"component", "flags", ""})
    subgroups: frozenset[str] = word_set("keycap alphanum zodiac skin-tone hair-style")
    labels: frozenset[str] = word_set(LETTERED_LABELS, "|")

    def __contains__(self, concept: Concept) -> bool:
        return (
            concept.group in self.groups or concept.subgroup in self.subgroups or concept.label in self.labels
        )


LETTERS_AND_FLAGS = Dropped()

ONE_SIDED_GROUPS = frozenset({"symbols", "flags", "component", ""})
ONE_SIDED_SUBGROUPS = word_set("time place-map phone book-paper mail award-medal money music")
ONE_SIDED_WORDS = word_set("""
    left right leftwards rightwards clockwise counterclockwise waxing waning quarter crescent gibbous letter
    zzz sleeping sleepy symbols points calendar chart ticket tickets die joker mahjong cards slot clapper
    disk dvd keyboard laptop computer identification thermometer label level abacus ruler watch musical taxi
    bus minibus fire police ambulance hospital bank hotel school convenience station post office department
    stop fuel canned salt sake
""")
"""Words of labels whose pictures contain letters, digits, a scale or a direction."""


def read_concepts(folder: Path) -> dict[str, Concept]:
    """Return all concepts of an unpacked emojibase-data package by code.

    It has en/data.json and meta/groups.json, and the data.json of further languages if they are unpacked.
    """
    names = json.loads(Path(folder, "meta/groups.json").read_text("utf-8"))
    data = json.loads(Path(folder, "en/data.json").read_text("utf-8"))
    concepts = (_concept(item, names["groups"], names["subgroups"]) for item in data)
    labels = [_labels(Path(folder, language, "data.json")) for language in LANGUAGES]
    return {
        concept.code: replace(concept, translations=_translations(concept, labels)) for concept in concepts
    }


def plain_code(code: str) -> str:
    """Remove variation selectors, which fonts use inconsistently: "263A-FE0F" -> "263a"."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def plain_words(text: str) -> str:
    """Normalize to lower case, straight quotes and no colons: "man: red hair" -> "man, red hair"."""
    text = text.lower().replace("’", "'").replace("“", "").replace("”", "").replace(": ", ", ")
    return " ".join(text.split())


def name_slug(text: str) -> str:
    """Return a slug as in icon sets: "Man's shoe" -> "mans-shoe", "A button (type)" -> "a-button-type"."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"['.!]", "", plain)).strip("-")


def read_names(folder: Path, concepts: Mapping[str, Concept]) -> dict[str, str]:
    """Return codes by slug from an unpacked emojibase-data; labels take precedence over short names."""
    names = {name_slug(concept.label): code for code, concept in concepts.items()}
    for path in sorted(Path(folder, "en/shortcodes").glob("*.json")):
        for code, short in json.loads(path.read_text("utf-8")).items():
            for name in [short] if isinstance(short, str) else short:
                if plain_code(code) in concepts:
                    names.setdefault(name_slug(name), plain_code(code))
    return names


def _concept(item: Mapping[str, Any], groups: Mapping[str, str], subgroups: Mapping[str, str]) -> Concept:
    label = plain_words(item["label"])
    group = groups.get(str(item.get("group")), "")
    subgroup = subgroups.get(str(item.get("subgroup")), "")
    return Concept(
        code=plain_code(item["hexcode"]),
        emoji=item["emoji"],
        label=label,
        tags=_tags(item.get("tags", ()), label),
        group=group,
        subgroup=subgroup,
        mirrorable=mirrorable(label, group, subgroup),
    )


def _labels(path: Path) -> dict[str, str]:
    """Return the labels of one language by code; none if it is not unpacked."""
    if not path.exists():
        return {}
    return {
        plain_code(item["hexcode"]): plain_words(item["label"])
        for item in json.loads(path.read_text("utf-8"))
    }


def _translations(concept: Concept, labels: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """Return the distinct labels of a concept in other languages, unless they are equal in English."""
    found = (each[concept.code] for each in labels if concept.code in each)
    return tuple(dict.fromkeys(label for label in found if label != concept.label))


def _tags(tags: Iterable[str], label: str) -> tuple[str, ...]:
    """Return the distinct tags that are not emoticons, digits or the label."""
    words = (plain_words(tag) for tag in tags)
    useful = (word for word in words if re.fullmatch(r"[a-z][a-z' -]+", word) and word != label)
    return tuple(dict.fromkeys(useful))


def mirrorable(label: str, group: str, subgroup: str) -> bool:
    """Return whether the label is still true of the mirrored picture."""
    words = set(re.findall(r"[a-z]+", label))
    return not (group in ONE_SIDED_GROUPS or subgroup in ONE_SIDED_SUBGROUPS or words & ONE_SIDED_WORDS)
