"""Chooses the fixed prompts of every evaluation from the training set's labels, with a fixed seed.

    python -m pochade.evaluation.choose_prompts CORPUS

writes `prompts/held_out.jsonl` and `prompts/composed.jsonl`.
"""

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pochade.atomic import replacing
from pochade.evaluation import composed, foreground
from pochade.evaluation.composed import Composed, Kind
from pochade.evaluation.held_out import held_out
from pochade.training.corpus import Corpus, CorpusEntry, load, on_background
from pochade.training.data import captions
from pochade.training.data.recolouring import TINTS, recoloured
from pochade.training.data.scenes import BACKGROUNDS, RELATIONS, Relation
from pochade.training.data.selection import STYLES, known

HELD_OUT = 200
COMPOSED: dict[Kind, int] = {"colour": 25, "background": 25, "count": 50, "beside": 50, "above": 50}
"""How many prompts of each kind."""

MOST = 3
"""Largest number of objects in a prompt: four would fill the picture."""

SIDES: dict[Kind, tuple[Relation, Relation]] = {"beside": ("left", "right"), "above": ("above", "below")}

PLAIN_GROUPS = frozenset({"animals-nature", "food-drink", "travel-places", "objects", "activities"})
CLEAR_SHARE = 0.85
"""How well the foreground found on white must fit the picture's own outline (intersection over union)."""


def shown_styles(corpus: Corpus, styles: Sequence[str]) -> dict[str, set[str]]:
    """Concept code -> the styles in which training shows it."""
    shown: dict[str, set[str]] = defaultdict(set)
    for entry in corpus.entries:
        if entry.style in styles and known(entry) and not held_out(entry):
            shown[entry.code].add(entry.style)
    return shown


def held_out_prompts(
    corpus: Corpus, styles: Sequence[str], count: int, rng: Generator
) -> list[dict[str, str]]:
    """Pairs of concept and style that are not in the training set, of concepts that are in it in another
    style."""
    shown = shown_styles(corpus, styles)
    pairs = [e for e in corpus.entries if e.style in styles and held_out(e) and known(e) and shown[e.code]]
    chosen = sorted(rng.choice(len(pairs), size=min(count, len(pairs)), replace=False))
    return [
        {
            "prompt": f"{captions.noun_phrase(entry)}, {entry.style}",
            "label": entry.label,
            "style": entry.style,
            "code": entry.code,
        }
        for entry in (pairs[index] for index in chosen)
    ]


def plain(entry: CorpusEntry) -> bool:
    """Whether the label is a common noun of one or two words that can be counted."""
    return (
        entry.group in PLAIN_GROUPS
        and captions.countable(entry)
        and re.fullmatch(r"[a-z]+( [a-z]+)?", entry.label) is not None
        and captions.COLOUR_WORDS.isdisjoint(entry.label.split())
    )


def clear(picture: NDArray[np.uint8]) -> bool:
    """Whether a cut-out (S, S, 4) is one piece that stands out from white."""
    found = foreground.foreground(on_background(picture))
    own = picture[..., 3] >= 128
    areas = foreground.components(found)
    overlap = (found & own).sum() / max(1, (found | own).sum())
    return bool(overlap >= CLEAR_SHARE and areas[0] >= (1 - foreground.COMPONENT_SHARE / 2) * areas.sum())


def subjects(corpus: Corpus, styles: Sequence[str], wanted: Callable[[CorpusEntry], bool]) -> list[int]:
    """Wanted entries of the styles with plain labels and clear pictures."""
    return [
        index
        for index, entry in enumerate(corpus.entries)
        if entry.style in styles and wanted(entry) and plain(entry) and clear(corpus.picture(index))
    ]


def familiar(corpus: Corpus, styles: Sequence[str]) -> list[int]:
    """Subjects that training shows in their own style and in another one."""
    shown = shown_styles(corpus, styles)
    return subjects(
        corpus, styles, lambda entry: entry.style in shown[entry.code] and len(shown[entry.code]) > 1
    )


def composed_prompts(corpus: Corpus, styles: Sequence[str], rng: Generator) -> list[Composed]:
    """Prompts of all kinds; styles, counts and sides take turns."""
    pool = familiar(corpus, styles)
    of_style = [[index for index in pool if corpus.entries[index].style == style] for style in styles]
    return [
        compose(corpus, of_style[number % len(styles)], kind, number // len(styles), rng)
        for kind, count in COMPOSED.items()
        for number in range(count)
    ]


def compose(corpus: Corpus, pool: Sequence[int], kind: Kind, turn: int, rng: Generator) -> Composed:
    """A prompt of one kind about subjects of one style. turn: which of the kind's counts or sides is due."""
    if kind == "colour":
        return _tinted(corpus, pool, rng)
    first, second = (corpus.entries[index] for index in rng.choice(pool, size=2, replace=False))
    words = captions.noun_phrase(first)
    about: dict[str, Any] = {"kind": kind, "labels": (first.label,), "style": first.style}
    if kind == "background":
        colour = str(rng.choice([name for name in BACKGROUNDS if name != "white"]))
        ground = captions.with_article(f"{colour} background")
        return Composed(prompt=f"{words}, on {ground}, {first.style}", colour=colour, **about)
    if kind == "count":
        count = 1 + turn % MOST
        words = words if count == 1 else captions.counted(first, count)
        return Composed(prompt=f"{words}, {first.style}", count=count, **about)
    relation = SIDES[kind][turn % 2]
    prompt = f"{words} {RELATIONS[relation][0]} {captions.noun_phrase(second)}, {first.style}"
    return Composed(prompt=prompt, relation=relation, **{**about, "labels": (first.label, second.label)})


def _tinted(corpus: Corpus, pool: Sequence[int], rng: Generator) -> Composed:
    """A thing in a colour that it can be given and does not have."""
    while True:
        index, colour = int(rng.choice(pool)), str(rng.choice(list(TINTS)))
        entry = corpus.entries[index]
        if (
            captions.may_name_colour(entry)
            and entry.colour != colour
            and recoloured(corpus.picture(index), colour) is not None
        ):
            prompt = f"{captions.noun_phrase(entry, colour)}, {entry.style}"
            return Composed(
                kind="colour", prompt=prompt, labels=(entry.label,), style=entry.style, colour=colour
            )


def write(path: Path, lines: Sequence[str]) -> None:
    with replacing(path) as file:
        file.write("".join(lines).encode())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Choose the prompts of `pochade evaluate`.")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--styles", nargs="+", default=STYLES, metavar="STYLE", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parser.parse_args(arguments)
    corpus, folder = load(options.corpus), Path(__file__).parent / "prompts"
    rng = np.random.default_rng(options.seed)
    unseen = held_out_prompts(corpus, options.styles, HELD_OUT, rng)
    write(folder / "held_out.jsonl", [json.dumps(each, ensure_ascii=False) + "\n" for each in unseen])
    several = composed_prompts(corpus, options.styles, rng)
    write(folder / "composed.jsonl", [composed.to_line(each) for each in several])


if __name__ == "__main__":
    main()
