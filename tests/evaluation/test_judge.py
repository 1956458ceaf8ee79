"""The scorer in the package."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pochade.evaluation import scorer_model
from pochade.evaluation.composed import read as read_composed
from pochade.evaluation.concepts import read as read_pairs
from pochade.evaluation.evaluate import ceilings
from pochade.evaluation.measures import PROMPTS
from pochade.evaluation.scorer_model import Scorer, scorer_folder
from pochade.evaluation.word_vocabulary import UNKNOWN

pytestmark = pytest.mark.skipif(
    not scorer_folder().exists(), reason="the scorer is not in the package yet: it is being trained"
)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return scorer_model.load()


def heart(colour: str) -> Image.Image:
    image = Image.new("RGB", (128, 128), "white")
    pen = ImageDraw.Draw(image)
    pen.ellipse((14, 22, 66, 74), fill=colour)
    pen.ellipse((62, 22, 114, 74), fill=colour)
    pen.polygon([(19, 62), (109, 62), (64, 114)], fill=colour)
    return image


def test_it_knows_every_word_label_and_style_of_the_prompts(scorer: Scorer) -> None:
    pairs, composed = read_pairs(PROMPTS / "held_out.jsonl"), read_composed(PROMPTS / "composed.jsonl")
    labels = {pair.label for pair in pairs} | {label for each in composed for label in each.labels}
    assert labels <= set(scorer.labels)
    assert {each.style for each in [*pairs, *composed]} <= set(scorer.styles)
    assert (scorer.words.rows(sorted(labels), scorer.config.length) != UNKNOWN).all()


def test_it_recognises_hearts_that_it_has_never_seen(scorer: Scorer) -> None:
    colours = ("red", "blue", "green")
    seen = scorer.embed_images([heart(colour) for colour in colours])
    similarity = seen.concepts @ scorer.embed_texts(scorer.labels).T
    for row, colour in zip(similarity, colours, strict=True):
        best = [scorer.labels[index] for index in np.argsort(-row)[:5]]
        assert any("heart" in label for label in best), (colour, best)


def test_it_is_small_and_says_what_it_reaches() -> None:
    folder = scorer_model.scorer_folder()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 6_500_000
    reached = ceilings()
    assert reached["concept, top-5"] >= 0.9
    assert all(0 < share <= 1 for share in reached.values())
    assert (folder / "README.md").exists()
    assert json.loads((folder / "config.json").read_text())["scorer"]["side"] == 64
