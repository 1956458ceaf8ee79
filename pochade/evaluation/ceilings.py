"""Measures real pictures, which bounds what any model can be expected to reach.

    python -m pochade.evaluation.ceilings CORPUS

writes `ceilings.json` beside the scorer's weights. All pictures are held-out ones, which the scorer has not
seen, alone or laid out in scenes.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pochade.checkpoints.write import write_json
from pochade.evaluation import (
    choose_prompts,
    composed,
    concepts,
    copy_detection,
    frechet,
    real_images,
    scorer_model,
)
from pochade.evaluation.composed import Composed, Kind
from pochade.evaluation.held_out import held_out
from pochade.evaluation.measures import PROMPTS
from pochade.evaluation.scorer_model import Scorer
from pochade.training.corpus import Corpus, load
from pochade.training.data.recolouring import recoloured
from pochade.training.data.scenes import Scene, draw
from pochade.training.data.selection import STYLES

SCENES = 150
"""Number of scenes of each kind."""


def of_concepts(scorer: Scorer, corpus: Corpus) -> dict[str, float]:
    """Score the real pictures of the held-out prompts, and retrieve the caption of each among all."""
    pairs, known = concepts.read(PROMPTS / "held_out.jsonl"), real_images.index_by_pair(corpus)
    images = [real_images.framed(corpus, known[pair.code, pair.style], corpus.size) for pair in pairs]
    seen = scorer.embed_images(images)
    texts = scorer.embed_texts([pair.label for pair in pairs])
    drawn = scorer.style_embeddings[[scorer.styles.index(pair.style) for pair in pairs]]
    fit = seen.concepts @ texts.T + seen.styles @ drawn.T
    better = (fit > np.diag(fit)[:, None]).sum(axis=1)
    return {
        **concepts.shares(concepts.score(scorer, pairs, images)),
        "caption of a picture, R@1": float((better < 1).mean()),
        "caption of a picture, R@5": float((better < 5).mean()),
    }


def of_scenes(scorer: Scorer, corpus: Corpus, side: int, rng: Generator) -> dict[str, float]:
    """Score composed scenes of held-out pictures, with prompts as in `choose_prompts`."""
    pool = choose_prompts.subjects(corpus, STYLES, held_out)
    prompts: list[Composed] = []
    pictures: list[NDArray[np.uint8]] = []
    for kind in choose_prompts.COMPOSED:
        for number in range(SCENES):
            prompt, scene = planned(corpus, pool, kind, number, rng)
            prompts.append(prompt)
            pictures.append(draw(corpus, scene, rng, side))
    verdicts = composed.by_figure(composed.score(scorer, prompts, pictures))
    return {name: float(np.mean(values)) for name, values in verdicts.items()}


def planned(
    corpus: Corpus, pool: Sequence[int], kind: Kind, number: int, rng: Generator
) -> tuple[Composed, Scene]:
    """A composed prompt, and a scene that matches it."""
    style = STYLES[number % len(STYLES)]
    here = [index for index in pool if corpus.entries[index].style == style]
    prompt = choose_prompts.compose(corpus, here, kind, number // len(STYLES), rng)
    subjects = tuple(
        next(index for index in here if corpus.entries[index].label == label) for label in prompt.labels
    )
    scene = Scene(subjects=subjects, count=prompt.count, relation=prompt.relation)
    if kind == "colour":
        assert recoloured(corpus.picture(subjects[0]), prompt.colour) is not None
        scene = replace(scene, tint=prompt.colour)
    if kind == "background":
        scene = replace(scene, background=prompt.colour)
    return prompt, scene


def of_diversity(scorer: Scorer, corpus: Corpus) -> float:
    """The mean distance of real pictures of one concept in different styles."""
    drawings: dict[str, list[int]] = {}
    for index in real_images.training_entries_of(corpus, STYLES):
        drawings.setdefault(corpus.entries[index].code, []).append(index)
    several = [indices for indices in drawings.values() if len(indices) == len(STYLES)][::4]
    images = [real_images.framed(corpus, index, corpus.size) for indices in several for index in indices]
    points = copy_detection.joint_embeddings(scorer.embed_images(images)).reshape(
        len(several), len(STYLES), -1
    )
    return float(np.mean([frechet.mean_distance(each) for each in points]))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure what real pictures reach.")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--scorer", type=Path, default=scorer_model.scorer_folder(), metavar="FOLDER")
    options = parser.parse_args(arguments)
    scorer, corpus = scorer_model.load(options.scorer), load(options.corpus)
    figures = {
        **of_concepts(scorer, corpus),
        **of_scenes(scorer, corpus, corpus.size, np.random.default_rng(0)),
        "diversity": of_diversity(scorer, corpus),
    }
    write_json(options.scorer / "ceilings.json", {name: round(value, 4) for name, value in figures.items()})
    for name, value in figures.items():
        print(f"{name:28} {value:.4f}")


if __name__ == "__main__":
    main()
