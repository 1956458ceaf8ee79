"""Select the pictures of the corpus for training the starter, and frame them."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from pochade.training.corpus import Corpus, CorpusEntry, on_background
from pochade.training.corpus.concepts import word_set

MARGIN = 6 / 128
"""The white margin around a picture, as a share of its side."""

STYLES = ("3d style", "flat style", "noto style")
"""The styles that the starter names, and is evaluated by."""

PEOPLE_SUBGROUPS = word_set("""
    hand-fingers-open hand-fingers-partial hand-single-finger hand-fingers-closed hands hand-prop body-parts
    person person-role person-fantasy
""")
SIGNS = word_set("""
    circle square recycling warning peace yin multiply plus check cross star sparkle atom infinity heart
    biohazard radioactive diamond
""")


def training_entries(corpus: Corpus, styles: Sequence[str] = STYLES) -> list[int]:
    """Return the training entries. Held-out entries and other styles are only for evaluation."""
    return [
        index
        for index, entry in enumerate(corpus.entries)
        if entry.split == "train" and entry.style in styles
    ]


def single_entries(corpus: Corpus, styles: Sequence[str] = STYLES) -> list[int]:
    """Return the entries that are trained singly: few of the near-duplicates of people, few signs."""
    return [index for index in training_entries(corpus, styles) if known(corpus.entries[index])]


def known(entry: CorpusEntry) -> bool:
    """Return whether the starter is trained on this concept."""
    words = set(re.findall(r"[a-z]+", entry.label))
    if entry.group == "people-body":
        gendered = " " in entry.label and words & {"man", "woman", "men", "women", "facing"}
        return entry.subgroup in PEOPLE_SUBGROUPS and not gendered
    return entry.group != "symbols" or bool(words & SIGNS)


def scene_groups(corpus: Corpus, styles: Sequence[str] = STYLES) -> list[list[int]]:
    """Return groups of entries that may share a scene: objects of one style, no people, no signs."""
    groups: dict[str, list[int]] = {}
    for index in single_entries(corpus, styles):
        entry = corpus.entries[index]
        if entry.group not in ("people-body", "symbols"):
            groups.setdefault(entry.style, []).append(index)
    return list(groups.values())


def framed(corpus: Corpus, index: int, side: int) -> NDArray[np.uint8]:
    """Return a picture on white with a margin: (side, side, 3)."""
    picture = Image.fromarray(on_background(corpus.picture(index)))
    sheet, margin = Image.new("RGB", (side, side), "white"), round(MARGIN * side)
    size = side - 2 * margin
    sheet.paste(picture.resize((size, size), Image.Resampling.LANCZOS), (margin, margin))
    return np.asarray(sheet)


def random_view(
    corpus: Corpus, chosen: Sequence[int], rng: Generator, side: int, crop: int
) -> NDArray[np.uint8]:
    """Return a training picture of the autoencoder: one to four objects of random sizes on a plain colour.

    side: of the whole picture. It is cropped to (crop, crop, 3).
    """
    white = rng.random() < 0.6
    colour = (255, 255, 255) if white else tuple(int(part) for part in rng.integers(40, 256, size=3))
    sheet = Image.new("RGBA", (side, side), (*colour, 255))
    over = round(MARGIN * side)  # how far an object may extend beyond the edge
    things = 1 if rng.random() < 0.7 else int(rng.integers(2, 5))
    for _ in range(things):
        picture = corpus.picture(chosen[int(rng.integers(len(chosen)))])
        picture = picture[:, ::-1] if rng.random() < 0.5 else picture
        smallest, largest = (0.5625, 1.172) if things == 1 else (0.28125, 0.625)
        size = int(rng.integers(round(smallest * side), round(largest * side)))
        cut_out = Image.fromarray(np.ascontiguousarray(picture)).resize(
            (size, size), Image.Resampling.LANCZOS
        )
        low, high = min(0, side - size) - over, max(0, side - size) + over
        x, y = (int(part) for part in rng.integers(low, high + 1, size=2))
        sheet.alpha_composite(cut_out.crop((max(0, -x), max(0, -y), size, size)), (max(0, x), max(0, y)))
    top, left = rng.integers(side - crop + 1, size=2)
    return np.asarray(sheet)[top : top + crop, left : left + crop, :3]
