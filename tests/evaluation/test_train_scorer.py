"""Training the scorer: data selection, learning, and saved weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pochade.errors import InvalidCheckpoint
from pochade.evaluation import scorer_model, train_scorer, train_styles
from pochade.evaluation.held_out import held_out
from pochade.training.corpus import Corpus, on_background
from pochade.training.loop import TrainingPlan, averaged, train

TINY = {
    "word_width": 16,
    "side": 16,
    "widths": (8, 16),
    "blocks": (1, 1),
    "concept_width": 8,
}


@pytest.fixture(scope="module")
def training_indices(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scorer of two small levels that has seen the shapes for a moment."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("scorer")
    words = train_scorer.corpus_words(corpus)
    config = replace(train_scorer.scorer_config(corpus), **TINY)  # type: ignore[arg-type]
    plan = TrainingPlan(steps=120, learning_rate=3e-3, warmup=5, averaging=0.9, log_every=20)
    loss = train_scorer.loss(config, corpus, words, batch=24)
    losses = [progress.loss for progress in train(loss, train_scorer.initialize(config, 0), plan, folder)]
    assert losses[-1] < 0.8 * losses[0]
    known, numbers = train_styles.textures(corpus, train_scorer.judged_styles(corpus), seed=0)
    assert len(known) == train_styles.VIEWS * len(train_scorer.training_indices(corpus))
    for _ in train_styles.fit(config, known, numbers, folder / "styles", steps=100):
        pass
    weights = {**averaged(folder), **averaged(folder / "styles")}
    train_scorer.write(corpus, config, weights, folder / "scorer")
    return folder / "scorer"


def test_it_never_sees_what_models_are_judged_by(corpus: Corpus) -> None:
    seen = train_scorer.training_indices(corpus)
    assert 0 < len(seen) < len(corpus)
    assert not any(held_out(corpus.entries[index]) for index in seen)


def test_what_no_model_draws_is_not_judged_and_may_be_learned(corpus: Corpus) -> None:
    hidden = next(entry for entry in corpus.entries if held_out(entry))
    codes = [f"{number:x}" for number in range(64)]
    assert not any(held_out(replace(hidden, source="emojione", code=code)) for code in codes)
    older = replace(hidden, source="emojione", style="emojione style")
    assert "emojione style" not in train_scorer.judged_styles(
        replace(corpus, entries=(*corpus.entries, older))
    )


def test_it_tells_styles_and_shapes_apart(corpus: Corpus, training_indices: Path) -> None:
    scorer = scorer_model.load(training_indices, engine="numpy")
    assert scorer.labels == ("bar", "box", "cross", "disc", "ring", "wedge")
    assert scorer.styles == ("flat style", "noto style")
    seen = scorer.embed_images(
        [Image.fromarray(on_background(corpus.picture(i))) for i in range(len(corpus))]
    )
    found = (seen.styles @ scorer.style_embeddings.T).argmax(axis=1)
    assert np.mean([scorer.styles[i] == e.style for i, e in zip(found, corpus.entries, strict=True)]) > 0.9
    named = (seen.concepts @ scorer.embed_texts(scorer.labels).T).argmax(axis=1)
    right = np.mean([scorer.labels[i] == e.label for i, e in zip(named, corpus.entries, strict=True)])
    assert right > 0.35  # of six; it has had a few seconds


def test_a_batch_is_no_matter(corpus: Corpus, training_indices: Path) -> None:
    scorer = scorer_model.load(training_indices, engine="numpy")
    images = [
        Image.fromarray(on_background(corpus.picture(index % 96))) for index in range(scorer_model.BATCH + 3)
    ]
    many, one = scorer.embed_images(images), scorer.embed_images(images[-1:])
    assert len(many) == scorer_model.BATCH + 3
    np.testing.assert_allclose(many.concepts[-1], one.concepts[0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(many.concepts, axis=1), 1, atol=1e-5)


def test_a_folder_without_a_scorer_is_named(tmp_path: Path, training_indices: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match=r"config\.json' is not the configuration of a scorer"):
        scorer_model.load(tmp_path)
    (tmp_path / "config.json").write_text((training_indices / "config.json").read_text())
    with pytest.raises(InvalidCheckpoint, match=r"model\.safetensors' does not exist"):
        scorer_model.load(tmp_path)
