"""Composed prompts, and explicit rules that decide whether a picture matches one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pochade.evaluation import foreground
from pochade.evaluation.concepts import ranks as concept_ranks
from pochade.evaluation.scorer_model import Scorer
from pochade.training.corpus.colours import dominant_colour
from pochade.training.data.scenes import BACKGROUNDS, Relation

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Kind = Literal["colour", "background", "count", "beside", "above"]


@dataclass(frozen=True, kw_only=True)
class Composed:
    """A prompt and what it asks for.

    kind: what is tested. labels: of the objects, in the order of the prompt. style: its words. colour: of the
    object or the background. count: number of a single object. relation: of the first object to the second.
    """

    kind: Kind
    prompt: str
    labels: tuple[str, ...]
    style: str
    colour: str = ""
    count: int = 1
    relation: Relation = ""


def read(path: Path) -> list[Composed]:
    """Read a file with one JSON object per line."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [Composed(**{**line, "labels": tuple(line["labels"])}) for line in lines]


def to_line(composed: Composed) -> str:
    """One line of such a file, without default values."""
    fields = asdict(composed)
    usual = {"colour": "", "count": 1, "relation": ""}
    kept = {name: value for name, value in fields.items() if name not in usual or value != usual[name]}
    return json.dumps(kept, ensure_ascii=False) + "\n"


def colour_matches(composed: Composed, picture: Pixels) -> bool:
    """Whether most of the object has the named colour."""
    mask = foreground.foreground(picture)
    opaque = np.dstack([picture, np.where(mask, 255, 0).astype(np.uint8)])
    return bool(mask.any()) and dominant_colour(opaque)[0] == composed.colour


def background_matches(composed: Composed, picture: Pixels) -> bool:
    """Whether the border's colour is nearer to the named background than to any other."""
    names = list(BACKGROUNDS)
    named = foreground.oklab(np.array(list(BACKGROUNDS.values()), np.uint8))
    here = foreground.oklab(foreground.background(picture)[None])
    return names[int(np.linalg.norm(named - here, axis=1).argmin())] == composed.colour


def count_matches(composed: Composed, picture: Pixels) -> bool:
    """Whether the number of objects is right."""
    return foreground.count(picture) == composed.count


def halves(picture: Pixels, relation: Relation) -> tuple[Pixels | None, Pixels | None]:
    """The objects in the first object's half and in the second's, cut out; None for an empty half."""
    mask = foreground.foreground(picture)
    height, width = mask.shape
    near = np.zeros_like(mask)
    if relation in ("left", "right"):
        near[:, : width // 2] = True
    else:
        near[: height // 2] = True
    first, second = (near, ~near) if relation in ("left", "above") else (~near, near)
    return foreground.cut_out(picture, mask & first), foreground.cut_out(picture, mask & second)


def parts(composed: Composed, picture: Pixels) -> list[Pixels | None]:
    """The objects of the prompt, cut out from where they should be; empty for several of one kind."""
    if composed.relation:
        return list(halves(picture, composed.relation))
    if composed.count > 1:
        return []
    return [foreground.cut_out(picture, foreground.foreground(picture))]


def relation_matches(similarity: Floats) -> bool:
    """Whether each half shows its own object rather than the other; chance is one in four.

    similarity: (2, 2), of the content of each half to both labels; -1 for an empty half.
    """
    return bool(similarity[0, 0] > similarity[0, 1] and similarity[1, 1] > similarity[1, 0])


def score(scorer: Scorer, prompts: Sequence[Composed], pictures: Sequence[Pixels]) -> list[dict[str, object]]:
    """Score pictures (H, W, 3): whether each matches its prompt, and the ranks of its objects' labels.

    0 is the best rank; a missing object gets the last one.
    """
    cut = [parts(prompt, picture) for prompt, picture in zip(prompts, pictures, strict=True)]
    present = {
        (n, which): part for n, each in enumerate(cut) for which, part in enumerate(each) if part is not None
    }
    ranks = {place: len(scorer.labels) for place in _places(cut)}
    similarity = {place: np.full(2, -1.0, np.float32) for place in ranks}
    if present:
        seen = scorer.embed_images([Image.fromarray(part) for part in present.values()])
        found = concept_ranks(scorer, seen, [prompts[n].labels[which] for n, which in present])
        for place, rank, concept in zip(present, found, seen.concepts, strict=True):
            ranks[place] = int(rank)
            similarity[place] = scorer.embed_texts(prompts[place[0]].labels) @ concept
    return [
        {
            "prompt": prompt.prompt,
            "kind": prompt.kind,
            "obeyed": matches_prompt(prompt, picture, [similarity[n, which] for which in range(len(cut[n]))]),
            "ranks": [ranks[n, which] for which in range(len(cut[n]))],
        }
        for n, (prompt, picture) in enumerate(zip(prompts, pictures, strict=True))
    ]


def matches_prompt(composed: Composed, picture: Pixels, similarity: Sequence[Floats]) -> bool:
    """Whether a picture matches its prompt. similarity: see `relation_matches`."""
    if composed.kind == "colour":
        return colour_matches(composed, picture)
    if composed.kind == "background":
        return background_matches(composed, picture)
    if composed.kind == "count":
        return count_matches(composed, picture)
    return relation_matches(np.stack(similarity))


def by_figure(verdicts: Sequence[Mapping[str, Any]]) -> dict[str, list[bool]]:
    """The verdicts grouped by kind, and whether the objects themselves are right."""
    figures: dict[str, list[bool]] = {}
    for verdict in verdicts:
        figures.setdefault(verdict["kind"], []).append(verdict["obeyed"])
    for name, things in (("thing, top-5", 1), ("both things, top-5", 2)):
        found = [max(verdict["ranks"]) < 5 for verdict in verdicts if len(verdict["ranks"]) == things]
        if found:
            figures[name] = found
    return figures


def _places(cut: Sequence[Sequence[Pixels | None]]) -> list[tuple[int, int]]:
    return [(n, which) for n, each in enumerate(cut) for which in range(len(each))]
