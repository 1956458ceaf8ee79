"""Whether a picture shows its concept in its style, for pairs of the two that no training has shown."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pochade.evaluation.judge import Embeddings, Judge

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class ConceptInStyle:
    """A concept in a style. code: the concept's, as in `Entry`."""

    prompt: str
    label: str
    style: str
    code: str


def read(path: Path) -> list[ConceptInStyle]:
    """The pairs of a file with one JSON object a line."""
    return [ConceptInStyle(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def ranks(judge: Judge, seen: Embeddings, labels: Sequence[str]) -> NDArray[np.intp]:
    """How many labels fit each picture better than its own: 0 is best. A label is known or added."""
    candidates = list(dict.fromkeys([*judge.labels, *labels]))
    nearness = seen.concepts @ judge.read(candidates).T
    own = nearness[np.arange(len(labels)), [candidates.index(label) for label in labels]]
    better: NDArray[np.intp] = (nearness > own[:, None]).sum(axis=1)
    return better


def styles(judge: Judge, seen: Embeddings) -> list[str]:
    """The style that fits each picture best."""
    nearness = seen.styles @ judge.style_places.T
    return [judge.styles[index] for index in nearness.argmax(axis=1)]


def judged(
    judge: Judge, pairs: Sequence[ConceptInStyle], images: "Sequence[Image.Image]"
) -> list[dict[str, object]]:
    """For each picture the rank of its concept, and the style that it seems to have."""
    seen = judge.see(images)
    found = zip(pairs, ranks(judge, seen, [pair.label for pair in pairs]), styles(judge, seen), strict=True)
    return [
        {"prompt": pair.prompt, "rank": int(rank), "style": style, "style_right": style == pair.style}
        for pair, rank, style in found
    ]


def shares(verdicts: Sequence[dict[str, object]]) -> dict[str, float]:
    """The figures of some verdicts."""
    rank = np.array([verdict["rank"] for verdict in verdicts])
    return {
        "concept, top-1": float((rank < 1).mean()),
        "concept, top-5": float((rank < 5).mean()),
        "style": float(np.mean([bool(verdict["style_right"]) for verdict in verdicts])),
    }
