"""The scorer: embeds pictures, texts and styles, on any engine."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pochade.checkpoints import safetensors
from pochade.checkpoints.check import FiniteTensors
from pochade.checkpoints.fingerprint import fingerprint
from pochade.errors import InvalidCheckpoint
from pochade.evaluation.scorer_networks import ScorerConfig, picture_tower, style_tower, text_tower
from pochade.evaluation.texture import texture
from pochade.evaluation.word_vocabulary import Vocabulary, word_weights
from pochade.loading.engine_choice import choose, make_engine
from pochade.loading.network import Network

if TYPE_CHECKING:
    from PIL import Image

Floats = NDArray[np.float32]

BATCH = 32
"""Batch size; the last batch is padded, so that the shape is static."""

STYLE_EMBEDDINGS = "style.places"
"""Name of the parameter that holds the embeddings of the styles."""

REMEDY = "reinstall the package, or train one with pochade.evaluation.train_scorer"


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of pictures, unit vectors: concepts (N, D) for the content, styles (N, S) for the style."""

    concepts: Floats
    styles: Floats

    def __len__(self) -> int:
        return len(self.concepts)


@dataclass(frozen=True, eq=False, kw_only=True)
class Scorer:
    """A loaded scorer.

    labels, styles: all that it was trained on. style_embeddings: unit vectors (styles, S).
    """

    config: ScorerConfig
    words: Vocabulary
    labels: tuple[str, ...]
    styles: tuple[str, ...]
    style_embeddings: Floats
    network: Network

    def embed_images(self, images: "Sequence[Image.Image]") -> Embeddings:
        """Embed pictures of any size in both spaces."""
        pictures = np.stack([prepared(image, self.config.side) for image in images])
        textures = np.stack([texture(image) for image in images])
        return Embeddings(
            self._embed(picture_tower, picture=pictures), self._embed(style_tower, texture=textures)
        )

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """Embed texts in the space of concepts: unit vectors (N, D)."""
        rows = self.words.rows(texts, self.config.length)
        return self._embed(text_tower, words=rows, shares=word_weights(rows))

    def _embed(self, function: Callable[..., Any], **inputs: NDArray[Any]) -> Floats:
        count, parts = len(next(iter(inputs.values()))), []
        for start in range(0, count, BATCH):
            chosen = np.arange(start, start + BATCH).clip(max=count - 1)
            found = self.network.run(function, **{name: array[chosen] for name, array in inputs.items()})
            parts.append(found[: count - start])
        return normal(np.concatenate(parts))


def load(folder: str | Path | None = None, *, engine: str = "auto", threads: int | None = None) -> Scorer:
    """The scorer in the package, or the one in `folder`; it computes on the CPU in f32.

    Raises InvalidCheckpoint for a folder that is missing, damaged or holds something else.
    """
    folder = scorer_folder() if folder is None else Path(folder)
    path = folder / "config.json"
    try:
        fields = json.loads(path.read_text("utf-8"))
        config = ScorerConfig.from_json(fields["scorer"])
        words, labels, styles = (tuple(fields[name]) for name in ("words", "labels", "styles"))
    except (OSError, ValueError, TypeError, KeyError) as damaged:
        raise InvalidCheckpoint(
            f"'{path}' is not the configuration of a scorer ({damaged}); {REMEDY}"
        ) from damaged
    weights = folder / "model.safetensors"
    stored = safetensors.read(weights)
    tensors = FiniteTensors(stored, weights)
    if STYLE_EMBEDDINGS not in stored or stored[STYLE_EMBEDDINGS].shape != (len(styles), config.style_width):
        raise InvalidCheckpoint(f"'{weights}' has no '{STYLE_EMBEDDINGS}' for {len(styles)} styles; {REMEDY}")
    return Scorer(
        config=config,
        words=Vocabulary(words),
        labels=labels,
        styles=styles,
        style_embeddings=normal(tensors[STYLE_EMBEDDINGS].astype(np.float32)),
        network=Network(
            tensors, fingerprint([stored]), make_engine(choose("cpu", "f32", engine), threads=threads), config
        ),
    )


def scorer_folder() -> Path:
    """The folder of the scorer in the package."""
    return Path(__file__).parent / "scorer"


def prepared(image: "Image.Image", side: int) -> Floats:
    """(3, side, side) in -1..1; what is not square is stretched."""
    from PIL import Image

    small = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(small, np.float32).transpose(2, 0, 1) / np.float32(127.5) - np.float32(1)


def normal(vectors: Floats) -> Floats:
    """Each row scaled to length one."""
    unit: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit
