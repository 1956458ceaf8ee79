"""Trains the scorer: which words belong to a picture (Radford et al. 2021), and its style.

    python -m pochade.evaluation.train_scorer CORPUS FOLDER

It is trained on all pictures that are not held out for evaluation. Besides the other captions of the batch,
each picture is compared with every label; with some thousand of them that costs little. Styles are trained
separately, see `train_styles`.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pochade.checkpoints import safetensors
from pochade.checkpoints.write import write_json
from pochade.engines.shape_inference import infer_shapes
from pochade.engines.torch import TorchOps
from pochade.evaluation import texture, train_styles
from pochade.evaluation.augmentation import augmented
from pochade.evaluation.held_out import held_out
from pochade.evaluation.scorer_networks import ScorerConfig, picture_tower, text_tower
from pochade.evaluation.word_vocabulary import Vocabulary, build_vocabulary, split, word_weights
from pochade.loading.parameter_shapes import with_config
from pochade.training.corpus import Corpus, load
from pochade.training.data.captions import COLOUR_WORDS, caption
from pochade.training.data.selection import STYLES
from pochade.training.loop import Loss, TrainingPlan, TrainingProgress, averaged, train, use_threads
from pochade.training.parameters import Parameters, create
from pochade.training.precision import mixed_precision
from pochade.weights import View

SCALE = 20.0
"""Of the cosines, before the softmax: the inverse temperature."""


def initialize(config: ScorerConfig, seed: int) -> Parameters:
    """Parameters `picture.*` and `text.*`."""
    picture = {"picture": ((1, 3, config.side, config.side), "f32")}
    words = {"words": ((1, config.length), "i64"), "shares": ((1, config.length, 1), "f32")}
    shapes = {
        **infer_shapes(with_config(picture_tower, config), picture).parameters,
        **infer_shapes(with_config(text_tower, config), words).parameters,
    }
    return create(shapes, seed)


def training_indices(corpus: Corpus) -> list[int]:
    """The indices of entries for training: those with a label that are not held out."""
    return [i for i, entry in enumerate(corpus.entries) if entry.label and not held_out(entry)]


def corpus_words(corpus: Corpus) -> Vocabulary:
    """Every word of the corpus's labels, tags and styles, and of colours."""
    entries = corpus.entries
    texts = (text for entry in entries for text in (entry.label, *entry.tags, entry.style))
    return build_vocabulary([*texts, "a an", " ".join(COLOUR_WORDS)])


def judged_styles(corpus: Corpus) -> list[str]:
    """The styles that the fixed prompts ask for. Others are too like them to be told apart fairly."""
    known = {entry.style for entry in corpus.entries}
    return sorted(known.intersection(STYLES))


def named_labels(corpus: Corpus) -> list[str]:
    """The candidates for a picture's concept: the labels of emoji, which all styles share."""
    return sorted({entry.label for entry in corpus.entries if entry.emoji})


def loss(config: ScorerConfig, corpus: Corpus, words: Vocabulary, *, batch: int) -> Loss:
    """Cross-entropies of scaled cosines: pictures with all labels, pictures with the captions of a batch."""
    entries, ops = corpus.entries, TorchOps()
    chosen = np.array(training_indices(corpus))
    named = named_labels(corpus)
    mirrorable = np.array([entry.mirrorable for entry in entries])
    hue_free = np.array([COLOUR_WORDS.isdisjoint(split(entry.label)) for entry in entries])

    def step(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
        picked = rng.choice(chosen, size=batch, replace=False)
        pictures = np.stack([corpus.picture(int(index)) for index in picked])
        seen = augmented(pictures, mirrorable[picked], hue_free[picked], config.side, rng)
        labels = list(dict.fromkeys([*named, *(entries[int(index)].label for index in picked)]))
        captions = [caption(entries[int(index)], rng, style_share=0) for index in picked]
        rows = words.rows([*labels, *captions], config.length)
        view = View(parameters)
        with mixed_precision("cpu"):
            encoded_pictures = picture_tower(ops, config, view, seen)
            encoded_texts = text_tower(
                ops, config, view, torch.from_numpy(rows), torch.from_numpy(word_weights(rows))
            )
        encoded_pictures, encoded_texts = (
            F.normalize(part.float(), dim=-1) for part in (encoded_pictures, encoded_texts)
        )
        label_logits = SCALE * encoded_pictures @ encoded_texts[: len(labels)].T
        caption_logits = SCALE * encoded_pictures @ encoded_texts[len(labels) :].T
        number = {label: place for place, label in enumerate(labels)}
        true = torch.tensor([number[entries[int(index)].label] for index in picked])
        twins = (true[:, None] == true[None]) & ~torch.eye(batch, dtype=torch.bool)
        caption_logits = caption_logits.masked_fill(twins, -torch.inf)
        same = torch.arange(batch)
        error: torch.Tensor = (
            F.cross_entropy(label_logits, true)
            + (F.cross_entropy(caption_logits, same) + F.cross_entropy(caption_logits.T, same)) / 2
        )
        return error

    return step


def fit(
    corpus: Corpus, folder: Path, steps: int, *, batch: int = 96, rate: float = 1e-3
) -> Iterator[TrainingProgress]:
    """Train pictures and texts in `folder`, resuming what is there."""
    config = scorer_config(corpus)
    plan = TrainingPlan(
        steps=steps, learning_rate=rate, warmup=100, weight_decay=0.05, averaging=0.998, save_every=200,
        log_every=25,
    )  # fmt: skip
    judged = loss(config, corpus, corpus_words(corpus), batch=batch)
    return train(judged, initialize(config, seed=0), plan, folder)


def scorer_config(corpus: Corpus) -> ScorerConfig:
    """The sizes of the scorer in the package."""
    return ScorerConfig(
        words=len(corpus_words(corpus)), textures=texture.COUNT, styles=len(judged_styles(corpus))
    )


def write(corpus: Corpus, config: ScorerConfig, weights: Parameters, folder: Path) -> None:
    """Write weights as the folder that `scorer_model.load` reads, in f16."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.half().numpy() for name, tensor in weights.items()}
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
    parser.add_argument("--steps", type=int, default=5000, help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=96, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    options = parser.parse_args(arguments)
    use_threads(options.threads)
    corpus, concepts, styles = load(options.corpus), options.folder / "concepts", options.folder / "styles"
    for progress in fit(corpus, concepts, options.steps, batch=options.batch):
        print(progress, flush=True)
    config = scorer_config(corpus)
    known, numbers = train_styles.textures(corpus, judged_styles(corpus), seed=0)
    for progress in train_styles.fit(config, known, numbers, styles):
        print(progress, flush=True)
    write(corpus, config, {**averaged(concepts), **averaged(styles)}, options.folder / "scorer")


if __name__ == "__main__":
    main()
