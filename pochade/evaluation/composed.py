"""Composed prompts, and whether a picture obeys one: by rules that anybody can read."""

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

    kind: what is judged. labels: of the things, in the order of the prompt; style: the words for it.
    colour: of the thing or of the background. count: how many of a single thing.
    relation: of the first thing to the second.
    """

    kind: Kind
    prompt: str
    labels: tuple[str, ...]
    style: str
    colour: str = ""
    count: int = 1
    relation: Relation = ""


def read(path: Path) -> list[Composed]:
    """The prompts of a file with one JSON object a line."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [Composed(**{**line, "labels": tuple(line["labels"])}) for line in lines]


def to_line(composed: Composed) -> str:
    """One line of such a file; what is as usual is left out."""
    fields = asdict(composed)
    usual = {"colour": "", "count": 1, "relation": ""}
    kept = {name: value for name, value in fields.items() if name not in usual or value != usual[name]}
    return json.dumps(kept, ensure_ascii=False) + "\n"


def colour_matches(composed: Composed, picture: Pixels) -> bool:
    """Whether most of the thing has the named colour."""
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
    """Whether there are exactly so many things."""
    return foreground.count(picture) == composed.count


def halves(picture: Pixels, relation: Relation) -> tuple[Pixels | None, Pixels | None]:
    """What stands in the first thing's half and in the second's, each cut out; None for an empty half."""
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
    """Each thing of the prompt, cut out from where it should be; of several alike, none."""
    if composed.relation:
        return list(halves(picture, composed.relation))
    if composed.count > 1:
        return []
    return [foreground.cut_out(picture, foreground.foreground(picture))]


def relation_matches(similarity: Floats) -> bool:
    """Whether each half shows its own thing rather than the other one; chance has a quarter of them right.

    similarity: (2, 2), of what stands in each half to both labels; -1 for an empty half.
    """
    return bool(similarity[0, 0] > similarity[0, 1] and similarity[1, 1] > similarity[1, 0])


def score(scorer: Scorer, prompts: Sequence[Composed], pictures: Sequence[Pixels]) -> list[dict[str, object]]:
    """For each picture (H, W, 3) whether its prompt is obeyed, and the ranks of its things' labels.

    0 is the best rank; a thing that is not there has the last one.
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
    """Whether a picture shows what its kind of prompt asks for. similarity: see `relation_matches`."""
    if composed.kind == "colour":
        return colour_matches(composed, picture)
    if composed.kind == "background":
        return background_matches(composed, picture)
    if composed.kind == "count":
        return count_matches(composed, picture)
    return relation_matches(np.stack(similarity))


def by_figure(verdicts: Sequence[Mapping[str, Any]]) -> dict[str, list[bool]]:
    """The verdicts by what they are about: each kind, and whether the things themselves are right."""
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
