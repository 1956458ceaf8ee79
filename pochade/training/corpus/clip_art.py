"""Select drawings of Open Clip Art and derive concepts from their metadata."""

import re
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import partial
from html import unescape
from pathlib import Path
from types import MappingProxyType

from pochade.training.corpus.concepts import Concept, mirrorable, name_slug, plain_words, word_set
from pochade.training.corpus.rendering import PackagedPicture, from_svg_file

DRAWINGS = "share/openclipart/svg"

FOLDERS = word_set("""
    animals buildings containers decorations education electronics food geography/astronomy office people
    plants recreation science tools transportation unsorted computer/hardware signs_and_symbols/weather
    signs_and_symbols/clocks
""")
"""Folders of objects; the others contain flags, logos, icons, signs, maps, patterns and gradients."""

LEFT_OUT = word_set("""
    people/clothing/pantyhose recreation/games/cards recreation/religion transportation/aiga-symbols
    transportation/roadsigns transportation/vehicles/hummers unsorted/duplicates office/telephone
""")

UNWANTED = re.compile(
    r"\b(?:flag|flags|logo|coat of arms|emblem|map|sign|symbol|icon|icons|font|letter|alphabet|text|button"
    r"|banner|label|border|frame|pattern|poster|template|gradient|calendar|diagram|barcode|roadsign"
    r"|menu example|bullet hole|sailing|boating rules|knot|crossroads|phases|bypass\w*|blueprint"
    r"|tux|linux|debian|gnome|kde|gnu|ubuntu|windows|microsoft|google|firefox|mozilla|coca|cola|pepsi"
    r"|nintendo|mario|pokemon|disney|mickey|lego|nokia|ipod|iphone|hummer|ferrari|porsche|volkswagen|bmw"
    r"|skoda|chevrolet|toyota|gameboy|atari|famous|gates|bach|beethoven|handel|brozo|leisler|van gogh"
    r"|portrait|dead|certificate|rpswb|corner|flourish|curve ahead|cycle lane|cycle route"
    r"|president|hitler|nazi|swastika|stalin|lenin|guevara|communist|fascist|obama|bin laden|saddam"
    r"|party member|election|protest|sexy|nude|naked|breast|cigarette|marijuana|cannabis)\b"
)
"""Excluded words in paths, titles and keywords: text, signs, brands, politics, adult content."""

COLLECTIONS = re.compile(
    r"clipart by .*|part of the .*|.*\b(?:collection|theme|library)\b.*|etiquette icons|unsorted|hash"
    r"|untitled|architetto .*|r sibmission|various cliparts|menu clip art .*|homes clipart|.* unsorted"
)
"""Titles of a collection or an author instead of a picture."""

NO_TAGS = word_set("""
    hash unsorted svg clipart clip art menu externalsource mobile remix color colour bw outline image
    openclipart contour drawing picture cliparts clipart vector
""")

KINDS = word_set("""
    automobile balloons bear bird boat boots bottle bread butterfly cactus cake candle candy car cat cheese
    clock coffee deer dinosaur dog drum duck fireworks fish flower frog fruit guitar gun hat home horse house
    insect juice knot lamp leaf lightbulb lizard monkey motorcycle mushroom penguin pie pig plane planet plant
    rings rocket shoes smiley snowman spider stickmen toy tree truck turkey vegetable wreath
""")
"""Keywords that may replace the label of a drawing whose title is not English."""

ENGLISH = word_set("""
    acorn aircraft angelfish antelope anvil apples armadillo atomic baboon backpacker ballerina balls
    balloon baseball beagle bells bible binoculars bishop bishops blacksmith blazer blocks blueprint boating
    boombox bottle bottled bowline bowsaw box boxes burner cage cakes candied capacitors cardboard
    carpenter cassette caterpillar cattle cayenne certificate cheetah chemical chips cleaner cleat clove
    cluster colored coloured column compact cone copper corks corndog corner crossroads cruiser curved
    daffodil daisy damselfly dancer dancers departing desk diamante diary digital diner diodes drawbridge
    drawn drill drums ducks dulcimer earring easel echidna eiffel enthusiast envelope eraser fat fawn fedora
    fern fitness flask folder folders footprint frogs geranium gourami grass grasshopper gull
    hallway handle handstand hardhat headphones help hen hiker hitch holly homes icecube jingle juggling
    jukebox jumping jupiter keyring kids kings kitten knitting lane lasagna leash leaves lemonade lens
    lighter lighthouse lizard longsword luggage magnolia marshmallow mars microscope minute mitten mix
    modern moons muffin oboe padlock paperback paperclip paprika parchment pavement pawn pawns perogies
    piggybank plain platter pocket pointing portrait print projectile propeller puller queens racket
    resistors roller rollerblading roots rubber runner sailboats sailor salami saturn scalpel screw
    scrub seagull seahorse seal sedan silhouette singing sketch snowstorm sombrero splash stamp stamper steps
    stones storm striped submarine surfboard swing tack tank teapot thumbtack toothpaste treble triangle
    trowel tulips turbo utensils vanilla venus violin volleyball wagon whale wooden workstation wreath
    bamboo shandy palmtree silo trumpet zebra
""")
"""English words in titles that do not occur in names of emoji."""

SPELLING = MappingProxyType({
    "baloon": "balloon", "stickmen": "stick man", "silhouet": "silhouette", "magnifing": "magnifying",
    "vavuum": "vacuum", "volleball": "volleyball", "autos": "cars", "icecube": "ice cube",
    "onelette": "omelette", "lightbulb": "light bulb", "icecream": "ice cream", "toyota": "",
    "illustration": "", "clothing": "", "bw": "black and white", "colour": "", "color": "", "ganson": "",
    "palmtree": "palm tree", "ppl": "person",
})  # fmt: skip

MAX_LABEL_WORDS = 7
TITLE = re.compile(r"<dc:title[^>]*>([^<]*)</dc:title>")
KEYWORD = re.compile(r"<rdf:li[^>]*>([^<]*)</rdf:li>")
TEXT = re.compile(r"<(?:svg:)?(?:text|flowRoot|image)\b")
PUBLIC_DOMAIN = "publicdomain"


@dataclass(frozen=True)
class ClipArtFacts:
    """The metadata of a file, as plain words."""

    path: str
    title: str
    keywords: tuple[str, ...]


def read_clip_art(folder: Path, known: Set[str]) -> Iterator[PackagedPicture]:
    """Yield the usable drawings of an unpacked openclipart-svg.

    known: English words. Titles are in many languages; one without any of these words or of the keywords
    that several files share is replaced by the file's rarest keyword.
    """
    root = folder / DRAWINGS
    paths = [path for path in sorted(root.rglob("*.svg")) if is_usable(path.relative_to(root).as_posix())]
    all_facts = [_facts(path, root) for path in paths]
    counts = Counter(word for facts in all_facts if facts for word in facts.keywords)
    english = known | ENGLISH | {word for word, count in counts.items() if count > 2}
    for path, facts in zip(paths, all_facts, strict=True):
        concept = facts and clip_art_concept(facts, english, counts)
        if facts and concept:
            yield PackagedPicture(facts.path, concept, partial(from_svg_file, path))


def is_usable(path: str) -> bool:
    """Return whether a drawing is in a folder of objects and its name has no excluded word."""
    folders = [parent.as_posix() for parent in Path(path).parents]
    return (
        not FOLDERS.isdisjoint(folders) and LEFT_OUT.isdisjoint(folders) and not UNWANTED.search(_words(path))
    )


def clip_art_concept(facts: ClipArtFacts, english: Set[str], counts: Counter[str]) -> Concept | None:
    """Return the concept of a drawing; None if it is unknown or excluded."""
    keywords = [word for word in facts.keywords if word not in NO_TAGS and not COLLECTIONS.fullmatch(word)]
    if UNWANTED.search(" ".join([facts.title, *keywords])):
        return None
    stem = _words(re.sub(r"_[a-z_]{4,}_\d+$", "", Path(facts.path).stem))
    foreign = "archit" in facts.path or facts.path.startswith("unsorted")
    special = sorted((word for word in keywords if word in KINDS), key=lambda word: counts[word])
    names = (name for name in (facts.title, stem) if not COLLECTIONS.fullmatch(name))
    label = next((name for name in names if _is_english(name, english, foreign)), "") or next(
        iter(special), ""
    )
    label = corrected_spelling(label)
    if not label:
        return None
    if re.search(r"_bw(?:_|$)", Path(facts.path).stem) and "black and white" not in label:
        keywords.append("black and white")
    group, *rest = Path(facts.path).parent.as_posix().split("/")
    return Concept(
        code=name_slug(label),
        emoji="",
        label=label,
        tags=tuple(
            word
            for word in dict.fromkeys(keywords)
            if word != label and word in english | {"black and white"}
        ),
        group=group,
        subgroup="-".join(rest),
        mirrorable=mirrorable(label, group, ""),
    )


def corrected_spelling(label: str) -> str:
    """Correct common misspellings and remove remarks: "magnifing glass" -> "magnifying glass"."""
    words = label.replace(" body part", "").split()
    return " ".join(" ".join(SPELLING.get(word, word) for word in words).split())


def _facts(path: Path, root: Path) -> ClipArtFacts | None:
    """Read the metadata; None for a file that is not in the public domain, or contains text or a photo."""
    svg = path.read_text("utf-8", "replace")
    if PUBLIC_DOMAIN not in svg.lower().replace(" ", "") or TEXT.search(svg):
        return None
    title = TITLE.search(svg)
    metadata = svg[: svg.find("</rdf:RDF>")]
    keywords = (_words(unescape(word)) for word in KEYWORD.findall(metadata))
    return ClipArtFacts(
        path.relative_to(root).as_posix(),
        _words(unescape(title[1])) if title else "",
        tuple(dict.fromkeys(word for word in keywords if word)),
    )


def _words(text: str) -> str:
    """Return lower-case words without numbers and remarks: "Corndog (B and W)" -> "corndog"."""
    text = re.sub(r"\([^)]*\)|\.svg$", " ", plain_words(text))
    return " ".join(re.sub(r"[^a-z' -]|(?<![a-z])['-]|['-](?![a-z])", " ", re.sub("[_/]", " ", text)).split())


def _is_english(name: str, english: Set[str], foreign: bool) -> bool:
    """Return whether at least half of the longer words are English, or all of them with `foreign`."""
    words = name.split()
    nouns = [word for word in words if len(word) > 2]
    known = sum(word in english for word in nouns)
    enough = known == len(nouns) if foreign else 2 * known >= len(nouns)
    return bool(nouns) and len(words) <= MAX_LABEL_WORDS and enough
