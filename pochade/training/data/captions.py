"""Captions for the starter's pictures: many true sentences for the same picture.

A model trained on "red apple, 3d style" alone only reacts to these words. So the wording varies: the label
alone, with its article, with a few tags, or with the measured colour, and usually the style.
"""

import re

from numpy.random import Generator

from pochade.training.corpus import CorpusEntry
from pochade.training.corpus.concepts import word_set

STYLE_SHARE = 0.8
TRANSLATED_SHARE = 0.1
"""The probability of a label in another language, for entries that have any."""

CLEAR_COLOUR = 0.55
"""The minimum share of the opaque area for a colour to be mentioned."""

COLOUR_WORDS = word_set("""
    red orange yellow green teal blue purple pink brown black gray grey white gold golden silver blond
    blonde light dark
""")

UNCOUNTED = word_set("""
    bacon bread broccoli butter candy coral custard dango falafel fog garlic ice lacrosse luggage milk
    oden popcorn rice salt soap spaghetti sushi thread wood yarn lightning fire food liquid water polish
    sake beverage people women men decoration dna mate meat chain
""")
"""Nouns that take no "a": masses and plurals without s."""

SINGULAR_IN_S = word_set("rhinoceros christmas tennis canvas atlas gas iris lens")

NO_THINGS = word_set("""
    badminton bowling camping cinema construction cooking cricket customs foggy locked unlocked tennis
    vibration volleyball wedding pong hockey polo racing departure arrival dizzy fuji claus arts
    increasing decreasing zzz thirty o'clock star-struck hamsa rolling away voltage way points off up
    down curving
""")
"""Heads of labels that are names, actions or states: never with an article or a colour."""

PEOPLE = frozenset({"man", "woman", "person", "face", "head"})
"""First words of labels about people: "woman lifting weights"."""

SYMBOL_NOUNS = word_set("""
    arrow button circle cross diamond emblem loop mark menorah sign sparkle splatter square star symbol
    triangle
""")

COUNTS = word_set("two three four five six seven eight nine ten hundred")

PLURALS = {
    "fish": "fish", "sheep": "sheep", "deer": "deer", "bison": "bison", "squid": "squid", "ox": "oxen",
    "mouse": "mice", "goose": "geese", "tooth": "teeth", "foot": "feet", "wolf": "wolves", "leaf": "leaves",
    "sheaf": "sheaves", "knife": "knives", "loaf": "loaves", "potato": "potatoes", "tomato": "tomatoes",
    "mango": "mangoes", "mosquito": "mosquitoes", "volcano": "volcanoes", "rhinoceros": "rhinoceroses",
    "hippopotamus": "hippopotamuses", "cactus": "cacti", "octopus": "octopuses", "scarf": "scarves",
    "child": "children", "man": "men", "woman": "women", "fungus": "fungi", "jellyfish": "jellyfish",
    "pufferfish": "pufferfish", "blowfish": "blowfish", "moose": "moose", "shrimp": "shrimp",
}  # fmt: skip

BEFORE_DETAILS = word_set(", with without of in on at from and behind over showing for to pointing")
"""Words after which a label only describes its head."""

AN = re.compile(r"(?!one\b|once|uni|use|usu|eu|ewe|ufo|uk|uri|uten)[aeiou]|hour|heir|honest|honou?r|x-")
"""Beginnings that are pronounced as vowels."""


def caption(
    entry: CorpusEntry, rng: Generator, *, style_share: float = STYLE_SHARE, background: str = ""
) -> str:
    """Return a random caption for `entry`, in lower case.

    rng: determines the wording; the same state gives the same caption.
    style_share: the probability that the style is mentioned (0..1).
    background: the background colour if it is to be mentioned ("light blue").
    """
    return finished(_subject(entry, rng), entry.style, rng, style_share=style_share, background=background)


def finished(
    words: str, style: str, rng: Generator, *, style_share: float = STYLE_SHARE, background: str = ""
) -> str:
    """Append background and, usually, style: "a fox, on a red background, 3d style"."""
    parts = [words]
    if background:
        parts.append(f"on {with_article(background + ' background')}")
    if rng.random() < style_share:
        parts.append(style)
    return ", ".join(parts).lower()


def _subject(entry: CorpusEntry, rng: Generator) -> str:
    if entry.translations and rng.random() < TRANSLATED_SHARE:
        return entry.translations[int(rng.integers(len(entry.translations)))]
    kind = rng.random()
    if kind < 0.2 and may_name_colour(entry):
        return noun_phrase(entry, entry.colour)
    if kind < 0.45:
        return noun_phrase(entry)
    if kind < 0.75:
        return tagged(entry, rng)
    return entry.label


def tagged(entry: CorpusEntry, rng: Generator) -> str:
    """Return the label and one to three tags with additional words, in random order."""
    known = set(re.findall(r"[\w'-]+", entry.label))
    new = [tag for tag in entry.tags if not known.issuperset(tag.split())]
    count = min(len(new), int(rng.integers(1, 4)))
    chosen = rng.choice(len(new), size=count, replace=False) if count else ()
    return ", ".join([entry.label, *(new[int(index)] for index in chosen)])


def may_name_colour(entry: CorpusEntry) -> bool:
    """Return whether "a {colour} {label}" is true, useful and correct English.

    People are excluded: their dominant colour is that of their skin or clothes.
    """
    words = re.findall(r"\w+", entry.label)
    return (
        entry.colour_share >= CLEAR_COLOUR
        and entry.group not in ("people-body", "symbols")
        and not COLOUR_WORDS.intersection(words)
        and words[0] not in COUNTS
        and not _is_name(entry)
    )


def noun_phrase(entry: CorpusEntry, colour: str = "") -> str:
    """Return the label with its article, if any: "a red kite", "an orange", "grapes", "mount fuji"."""
    words = f"{colour} {entry.label}".strip()
    head = _head(entry.label)
    plural = head.endswith("s") and not head.endswith(("ss", "us")) and head not in SINGULAR_IN_S
    return words if plural or head in UNCOUNTED or _is_name(entry) else with_article(words)


def countable(entry: CorpusEntry) -> bool:
    """Return whether "three {label}s" is correct English and means three pictures."""
    head = _head(entry.label)
    words = re.findall(r"[\w'-]+", entry.label)
    return (
        head not in UNCOUNTED
        and not _is_name(entry)
        and (not head.endswith("s") or head.endswith(("ss", "us")) or head in SINGULAR_IN_S)
        and not COUNTS.intersection(words)
        and entry.group not in ("people-body", "symbols")
        and re.fullmatch(r"[a-z][a-z -]*", entry.label) is not None
    )


def counted(entry: CorpusEntry, count: int) -> str:
    """Return a counted plural: "three foxes", "two sheaves of rice". count: 2 to 5."""
    words = entry.label.replace(",", " ,").split()
    head = words.index(_head(entry.label))
    words[head] = plural(words[head])
    number = ("two", "three", "four", "five")[count - 2]
    return f"{number} {' '.join(words)}".replace(" ,", ",")


def plural(noun: str) -> str:
    """Return the plural of an English noun, by rules and the exceptions among the labels."""
    if noun in PLURALS:
        return PLURALS[noun]
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou"):
        return noun[:-1] + "ies"
    return noun + "s"


def with_article(words: str) -> str:
    """Prepend the article: "owl" -> "an owl", "unicorn" -> "a unicorn"."""
    return f"{'an' if AN.match(words) else 'a'} {words}"


def _is_name(entry: CorpusEntry) -> bool:
    head = _head(entry.label)
    clock_face = entry.subgroup == "time" and head.endswith(("thirty", "o'clock"))
    return head in NO_THINGS or clock_face or (entry.group == "symbols" and head not in SYMBOL_NOUNS)


def _head(label: str) -> str:
    """Return the head noun: "sheaf of rice" -> "sheaf", "face with tongue" -> "face"."""
    words = label.replace(",", " ,").split()
    if words[0] in PEOPLE:
        return words[0]
    end = next((place for place, word in enumerate(words) if place and word in BEFORE_DETAILS), len(words))
    return words[end - 1]
