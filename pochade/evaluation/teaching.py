"""Training the scorer: which words belong to which picture (Radford et al. 2021), and in which style it is.

    python -m pochade.evaluation.teaching CORPUS FOLDER

It learns from everything but the pictures that models are judged by. Besides the other captions of a batch,
as there, each picture meets every label of the corpus at once: with some thousand labels that costs little
and is what the scorer is asked later.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pochade.checkpoints import safetensors
from pochade.checkpoints.write import write_json
from pochade.engines.outline import outline
from pochade.engines.torch import TorchOps
from pochade.evaluation.augmentation import augmented
from pochade.evaluation.held_out import SCORER_ONLY, held_out
from pochade.evaluation.towers import ScorerConfig, picture_tower, text_tower
from pochade.evaluation.words import Words, learned, shares, split
from pochade.pipeline.shapes import with_config
from pochade.training.corpus import Corpus, load
from pochade.training.data.captions import COLOUR_WORDS, caption
from pochade.training.loop import Loss, Plan, Progress, averaged, train, use_threads
from pochade.training.parameters import Parameters, create
from pochade.weights import View

SCALE = 20.0
"""Of the cosines, before the softmax: the inverse temperature."""


NO_STYLE = -100
"""In place of a style's number where none is judged."""


def fresh(config: ScorerConfig, seed: int) -> Parameters:
    """Parameters `picture.*` and `text.*`."""
    picture = {"picture": ((1, 3, config.side, config.side), "f32")}
    words = {"words": ((1, config.length), "i64"), "shares": ((1, config.length, 1), "f32")}
    shapes = {
        **outline(with_config(picture_tower, config), picture).parameters,
        **outline(with_config(text_tower, config), words).parameters,
    }
    return create(shapes, seed)


def taught(corpus: Corpus) -> list[int]:
    """The entries that the scorer may see: those with a label that are not held out."""
    return [i for i, entry in enumerate(corpus.entries) if entry.label and not held_out(entry)]


def corpus_words(corpus: Corpus) -> Words:
    """Every word of the corpus's labels, tags and styles, and of colours."""
    entries = corpus.entries
    texts = (text for entry in entries for text in (entry.label, *entry.tags, entry.style))
    return learned([*texts, "a an", " ".join(COLOUR_WORDS)])


def judged_styles(corpus: Corpus) -> list[str]:
    """The styles that models draw. Those of other sources are too like them to be told apart fairly."""
    return sorted({entry.style for entry in corpus.entries if entry.source not in SCORER_ONLY})


def named_labels(corpus: Corpus) -> list[str]:
    """What a picture's concept is looked for among: the labels of emoji, which every style shares."""
    return sorted({entry.label for entry in corpus.entries if entry.emoji})


def loss(config: ScorerConfig, corpus: Corpus, words: Words, *, batch: int) -> Loss:
    """Three cross-entropies of scaled cosines: labels, captions of the batch, styles."""
    entries, ops = corpus.entries, TorchOps()
    chosen = np.array(taught(corpus))
    labels = sorted({entry.label for entry in entries})
    styles = judged_styles(corpus)
    fixed = words.rows([*labels, *styles], config.length)
    label_of = torch.tensor([labels.index(entry.label) for entry in entries])
    style_of = torch.tensor(
        [styles.index(entry.style) if entry.style in styles else NO_STYLE for entry in entries]
    )
    mirrorable = np.array([entry.mirrorable for entry in entries])
    hue_free = np.array([COLOUR_WORDS.isdisjoint(split(entry.label)) for entry in entries])

    def step(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
        picked = rng.choice(chosen, size=batch, replace=False)
        pictures = np.stack([corpus.picture(int(index)) for index in picked])
        seen = augmented(pictures, mirrorable[picked], hue_free[picked], config.side, rng)
        captions = [caption(entries[int(index)], rng, style_share=0) for index in picked]
        rows = np.concatenate([fixed, words.rows(captions, config.length)])
        view = View(parameters)
        with torch.autocast(device_type="cpu", dtype=torch.bfloat16):
            concepts, drawn = picture_tower(ops, config, view, seen)
            meanings, manners = text_tower(
                ops, config, view, torch.from_numpy(rows), torch.from_numpy(shares(rows))
            )
        concepts, drawn, meanings, manners = (
            F.normalize(part.float(), dim=-1) for part in (concepts, drawn, meanings, manners)
        )
        named = SCALE * concepts @ meanings[: len(labels)].T
        told = SCALE * concepts @ meanings[len(labels) + len(styles) :].T
        styled = SCALE * drawn @ manners[len(labels) : len(labels) + len(styles)].T
        true = label_of[picked]
        twins = (true[:, None] == true[None]) & ~torch.eye(batch, dtype=torch.bool)
        told = told.masked_fill(twins, -torch.inf)
        same = torch.arange(batch)
        error: torch.Tensor = (
            F.cross_entropy(named, true)
            + (F.cross_entropy(told, same) + F.cross_entropy(told.T, same)) / 2
            + F.cross_entropy(styled, style_of[picked], ignore_index=NO_STYLE)
        )
        return error

    return step


def teach(
    corpus: Corpus, folder: Path, steps: int, *, batch: int = 96, rate: float = 1e-3
) -> Iterator[Progress]:
    """Train a scorer in `folder`, resuming what is there."""
    words = corpus_words(corpus)
    config = scorer_config(words)
    plan = Plan(
        steps=steps, learning_rate=rate, warmup=100, weight_decay=0.05, averaging=0.998, save_every=200,
        log_every=25,
    )  # fmt: skip
    return train(loss(config, corpus, words, batch=batch), fresh(config, seed=0), plan, folder)


def scorer_config(words: Words) -> ScorerConfig:
    """The sizes of the scorer in the package."""
    return ScorerConfig(words=len(words))


def write(corpus: Corpus, config: ScorerConfig, run: Path, folder: Path) -> None:
    """Write the averaged weights of a run as the folder that `judge.load` reads, in f16."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.half().numpy() for name, tensor in averaged(run).items()}
    safetensors.write(folder / "model.safetensors", tensors)
    write_json(
        folder / "config.json",
        {
            "scorer": config.to_json(),
            "words": list(corpus_words(corpus).known),
            "labels": named_labels(corpus),
            "styles": judged_styles(corpus),
        },
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train the scorer that `pochade evaluate` judges with.")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("folder", type=Path, help="where the run keeps its state, and the scorer is written")
    parser.add_argument("--steps", type=int, default=3000, help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=96, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    options = parser.parse_args(arguments)
    use_threads(options.threads)
    corpus = load(options.corpus)
    for progress in teach(corpus, options.folder, options.steps, batch=options.batch):
        print(progress, flush=True)
    config = scorer_config(corpus_words(corpus))
    write(corpus, config, options.folder, options.folder / "scorer")


if __name__ == "__main__":
    main()
