"""Real pictures, framed as models draw them, for ceilings and floors."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.random import Generator
from PIL import Image

from pochade.evaluation.held_out import held_out
from pochade.training.corpus import Corpus

MARGIN = 1 / 20
"""White margin on each side, as a share of the picture's side."""


def framed(corpus: Corpus, index: int, side: int) -> Image.Image:
    """A picture of the corpus on white, `side` pixels wide and high."""
    inner = round(side * (1 - 2 * MARGIN))
    cut_out = Image.fromarray(np.array(corpus.picture(index))).resize(
        (inner, inner), Image.Resampling.LANCZOS
    )
    sheet = Image.new("RGBA", (side, side), "white")
    sheet.alpha_composite(cut_out, ((side - inner) // 2,) * 2)
    return sheet.convert("RGB")


def index_by_pair(corpus: Corpus) -> Mapping[tuple[str, str], int]:
    """(code, style) -> the entry; the first one where a style has several."""
    pairs: dict[tuple[str, str], int] = {}
    for index, entry in enumerate(corpus.entries):
        pairs.setdefault((entry.code, entry.style), index)
    return pairs


def held_out_entries(corpus: Corpus, styles: Sequence[str]) -> list[int]:
    """The held-out entries of some styles."""
    return [i for i, entry in enumerate(corpus.entries) if held_out(entry) and entry.style in styles]


def training_entries_of(corpus: Corpus, styles: Sequence[str]) -> list[int]:
    """The training entries of some styles."""
    return [i for i, entry in enumerate(corpus.entries) if not held_out(entry) and entry.style in styles]


def siblings(corpus: Corpus, indices: Sequence[int], rng: Generator) -> list[int]:
    """For each entry a training entry of the same style and subgroup, none twice while there are others."""
    pools: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, entry in enumerate(corpus.entries):
        if not held_out(entry):
            pools[entry.style, entry.subgroup].append(index)
    unused = {key: list(rng.permutation(pool)) for key, pool in pools.items()}
    found = []
    for index in indices:
        key = corpus.entries[index].style, corpus.entries[index].subgroup
        if not unused.get(key):
            unused[key] = list(rng.permutation(pools[key]))
        if unused[key]:
            found.append(int(unused[key].pop()))
    return found
