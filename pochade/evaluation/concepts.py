"""Scores whether a picture shows its concept in its style, for pairs that are not in the training set."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pochade.evaluation.scorer_model import Embeddings, Scorer

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class ConceptInStyle:
    """A concept in a style. code: the concept's, as in `CorpusEntry`."""

    prompt: str
    label: str
    style: str
    code: str


def read(path: Path) -> list[ConceptInStyle]:
    """Read a file with one JSON object per line."""
    return [ConceptInStyle(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def ranks(scorer: Scorer, seen: Embeddings, labels: Sequence[str]) -> NDArray[np.intp]:
    """The rank of each picture's own label among all labels, 0 is best."""
    candidates = list(dict.fromkeys([*scorer.labels, *labels]))
    similarity = seen.concepts @ scorer.embed_texts(candidates).T
    own = similarity[np.arange(len(labels)), [candidates.index(label) for label in labels]]
    better: NDArray[np.intp] = (similarity > own[:, None]).sum(axis=1)
    return better


def styles(scorer: Scorer, seen: Embeddings) -> list[str]:
    """The style that fits each picture best."""
    similarity = seen.styles @ scorer.style_embeddings.T
    return [scorer.styles[index] for index in similarity.argmax(axis=1)]


def score(
    scorer: Scorer, pairs: Sequence[ConceptInStyle], images: "Sequence[Image.Image]"
) -> list[dict[str, object]]:
    """Score pictures: the rank of the concept, and the most similar style."""
    seen = scorer.embed_images(images)
    found = zip(pairs, ranks(scorer, seen, [pair.label for pair in pairs]), styles(scorer, seen), strict=True)
    return [
        {"prompt": pair.prompt, "rank": int(rank), "style": style, "style_right": style == pair.style}
        for pair, rank, style in found
    ]


def shares(verdicts: Sequence[dict[str, object]]) -> dict[str, float]:
    """The figures for a list of verdicts."""
    rank = np.array([verdict["rank"] for verdict in verdicts])
    return {
        "concept, top-1": float((rank < 1).mean()),
        "concept, top-5": float((rank < 5).mean()),
        "style": float(np.mean([bool(verdict["style_right"]) for verdict in verdicts])),
    }
