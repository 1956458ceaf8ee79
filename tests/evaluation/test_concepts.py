"""Recognition of concepts and styles, with a judge whose embeddings are known."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from pochade.evaluation import concepts
from pochade.evaluation.concepts import ConceptInStyle
from pochade.evaluation.measures import PROMPTS
from pochade.evaluation.scorer_model import Embeddings
from pochade.training.corpus.store import split_of

AXES = {"fox": 0, "owl": 1, "kite": 2}


class GrayScorer:
    """Sees in the gray value of a picture which axis it is on, and in its size which style it has."""

    labels = ("fox", "owl")
    styles = ("flat style", "noto style")
    style_embeddings = np.eye(2, dtype=np.float32)

    def embed_images(self, images: list[Image.Image]) -> Embeddings:
        grays = [int(np.asarray(image)[0, 0, 0]) for image in images]
        near = np.eye(3, dtype=np.float32) + 0.1 * np.array([0, 1, 2], np.float32)
        return Embeddings(near[grays], np.eye(2, dtype=np.float32)[[image.width % 2 for image in images]])

    def embed_texts(self, texts: Any) -> np.ndarray:
        axes = [AXES[text] for text in texts]
        return np.eye(3, dtype=np.float32)[axes]


SCORER: Any = GrayScorer()


def picture(axis: int, side: int) -> Image.Image:
    return Image.new("RGB", (side, side), (axis, axis, axis))


def pair(label: str, style: str) -> ConceptInStyle:
    return ConceptInStyle(prompt=f"a {label}, {style}", label=label, style=style, code="0")


def test_ranks_count_the_labels_that_fit_better() -> None:
    seen = SCORER.embed_images([picture(0, 2)] * 3)  # a fox; then the kite, then the owl fit
    assert concepts.ranks(SCORER, seen, ["fox", "owl", "kite"]).tolist() == [0, 2, 1]


def test_shares_of_verdicts() -> None:
    pairs = [pair("fox", "flat style"), pair("owl", "flat style"), pair("owl", "noto style")]
    verdicts = concepts.score(SCORER, pairs, [picture(0, 2), picture(0, 2), picture(1, 2)])
    assert [v["rank"] for v in verdicts] == [0, 1, 0]
    assert [v["style_right"] for v in verdicts] == [True, True, False]
    shares = concepts.shares(verdicts)
    assert shares["concept, top-1"] == pytest.approx(2 / 3)
    assert shares["concept, top-5"] == 1
    assert shares["style"] == pytest.approx(2 / 3)


def test_the_shipped_pairs_are_held_out_by_the_rule() -> None:
    pairs = concepts.read(PROMPTS / "held_out.jsonl")
    sources = {"3d style": "fluent-3d", "flat style": "fluent-flat", "noto style": "noto"}
    assert len({(each.code, each.style) for each in pairs}) == 200
    for each in pairs:
        assert split_of(each.code, sources[each.style]) == "held-out"
        assert any(split_of(each.code, other) == "train" for other in sources.values())
        assert each.label in each.prompt and each.prompt.endswith(f", {each.style}")
