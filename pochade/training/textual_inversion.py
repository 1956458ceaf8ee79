"""Textual inversion: a new word for an existing model, learned from a few pictures (Gal et al. 2022).

The model itself is not changed. Supported are models with one text encoder: SD 1.x, SD 2.x, the starter.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from pochade.adapters.embeddings import MAX_VECTORS, TABLE
from pochade.atomic import unwritable
from pochade.checkpoints import safetensors
from pochade.configs.networks import TextEncoderConfig
from pochade.errors import InvalidRequest
from pochade.images.decode import on_white, open_picture
from pochade.prompts.tokenizer import Tokenizer
from pochade.training.corpus import CorpusEntry, Unusable
from pochade.training.corpus.importers.common import PICTURE_SUFFIXES, caption_file, pair_key
from pochade.training.corpus.importers.folder import UNSUPPORTED
from pochade.training.data.examples import BucketedSet
from pochade.training.data.tokenizing import tokenize_with_word
from pochade.training.finetune import (
    digest_of_model,
    digest_of_pictures,
    latents_of,
    open_model,
    parameters,
    prediction,
)
from pochade.training.loop import TrainingPlan, averaged, run_record
from pochade.training.loop.stage import TrainingStage
from pochade.training.losses import inversion
from pochade.training.parameters import Parameters

NAME, CAPTION = "{name}", "{caption}"
WITH_CAPTIONS = ("{name}, {caption}",)
WITHOUT = ("{name}", "a {name}", "a picture of {name}", "a picture of a {name}")
"""Default caption templates."""


@dataclass(frozen=True, kw_only=True)
class NewWord:
    """A word to learn.

    token: its spelling in prompts, and the name of its file. initial: a word or words to start from. vectors:
    number of tokens (None: as many as `initial`). templates: sentences with `{name}`, and with `{caption}`
    where pictures have one; the default is plain ones.
    """

    token: str
    initial: str
    vectors: int | None = None
    templates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.token):
            raise InvalidRequest(f"token '{self.token}' is not a name; use letters, digits, - and _")
        if self.vectors is not None and not 1 <= self.vectors <= MAX_VECTORS:
            raise InvalidRequest(f"vectors is {self.vectors}; it must lie between 1 and {MAX_VECTORS}")
        for template in self.templates:
            if NAME not in template:
                raise InvalidRequest(f"template '{template}' lacks {NAME}, which stands for the word")


@dataclass(frozen=True)
class CaptionedPictures:
    """A few pictures in memory, with their captions where there are text files beside them."""

    entries: tuple[CorpusEntry, ...]
    pictures: tuple[NDArray[np.uint8], ...]

    def picture(self, index: int) -> NDArray[np.uint8]:
        return self.pictures[index]

    def content(self, index: int) -> bytes:
        return self.pictures[index].tobytes()


def open_folder(path: Path) -> CaptionedPictures:
    """Open the pictures in a folder. Raises InvalidRequest if there are none, or one is unreadable."""
    if not path.is_dir():
        raise InvalidRequest(f"'{path}' is not a folder; a word is learned from a folder of pictures")
    entries, pictures = [], []
    # Hidden files are not pictures of a person's: macOS puts one, ._cat.png, beside each on a foreign disk.
    files = [file for file in sorted(path.iterdir()) if not file.name.startswith(".")]
    texts = {pair_key(file.name): file for file in files if file.suffix.lower() == ".txt"}
    left_out = [file.name for file in files if file.suffix.lower() in UNSUPPORTED]
    if left_out:
        print(f"skipped, because their formats are not supported: {', '.join(left_out)}")
    for file in files:
        if file.suffix.lower() not in PICTURE_SUFFIXES:
            continue
        pixels = np.asarray(on_white(open_picture(file)))
        height, width = pixels.shape[:2]
        entries.append(
            CorpusEntry(
                name=file.name,
                source=path.name,
                width=width,
                height=height,
                caption=_caption(texts.get(pair_key(file.name))),
            )
        )
        pictures.append(pixels)
    if not entries:
        raise InvalidRequest(f"'{path}' holds no pictures ({', '.join(PICTURE_SUFFIXES)})")
    return CaptionedPictures(tuple(entries), tuple(pictures))


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """The word, the pictures, the model, the run's folder and the device."""

    word: NewWord
    pictures: CaptionedPictures
    model: Path | None  # None: the embedded starter
    folder: Path
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class TemplatedExamples:
    """Latents, with sentences that contain the new word.

    templates, without: for pictures with captions, and for those without.
    """

    shown: BucketedSet
    token: str
    templates: tuple[str, ...]
    without: tuple[str, ...]

    def batch(self, count: int, rng: Generator) -> tuple[torch.Tensor, list[str]]:
        """As in `data.examples.Examples`."""
        latents, captions = self.shown.batch(count, rng)
        choices = [self.templates if caption else self.without for caption in captions]
        chosen = [each[int(rng.integers(len(each)))] for each in choices]
        return latents, [
            template.replace(CAPTION, caption).replace(NAME, self.token)
            for template, caption in zip(chosen, captions, strict=True)
        ]


def inversion_stage(inverted: Inversion, batch: int = 4, rate: float = 5e-3) -> TrainingStage:
    """The training; `export_embedding` writes what it has learned.

    Raises InvalidRequest as `finetune.open_model` does, for pictures that are too small, and for a word that
    the model has already.
    """
    word, device = inverted.word, inverted.device
    pipeline = open_model(inverted.model, device)
    provenance = {
        "kind": "embedding",
        "token": word.token,
        "initial word": word.initial,
        "templates": " | ".join(word.templates),
        "model": digest_of_model(pipeline),
        "pictures": digest_of_pictures(inverted.pictures, lambda entry: entry.caption),
    }
    run_record.check(inverted.folder, provenance)
    text, tokenizer = pipeline.networks.text_encoder.config, pipeline.tokenizers[0]
    assert isinstance(text, TextEncoderConfig)
    frozen = parameters(pipeline, device)
    first = initialize(word, frozen, tokenizer)
    count = len(first[inversion.VECTORS])
    numbers = range(text.vocabulary, text.vocabulary + count)
    sayings = TemplatedExamples(
        shown=latents_of(pipeline, inverted.pictures, lambda entry: entry.caption),
        token=word.token,
        templates=_templates(word, inverted.pictures),
        without=word.templates or WITHOUT,
    )
    plan = TrainingPlan(
        steps=1,
        learning_rate=rate,
        warmup=20,
        averaging=0.99,
        weight_decay=0.0,
        batch=batch,
        save_every=100,
        log_every=10,
    )
    loss = inversion.loss(
        text,
        pipeline.networks.unet_config,
        frozen,
        pipeline.schedule,
        sayings,
        tokenize_with_word(tokenizer, word.token, numbers),
        batch=batch,
        prediction=prediction(pipeline),
        device=device,
    )
    return TrainingStage(
        loss=loss, parameters=first, plan=plan, folder=inverted.folder, provenance=provenance
    )


def initialize(word: NewWord, frozen: Parameters, tokenizer: Tokenizer) -> Parameters:
    """The first vectors: those of the initial word, in turn if there are more places.

    Raises InvalidRequest for a token that is a word already, and for an initial word without tokens.
    """
    if len(tokenizer.encode(word.token)) == 1:
        raise InvalidRequest(
            f"'{word.token}' is already a word of the model; choose a token that is not a word, such as"
            f" 'my-{word.token}'"
        )
    ids = tokenizer.encode(word.initial)
    if not ids:
        raise InvalidRequest(
            f"the initial word '{word.initial}' is empty; name an existing word that it resembles"
        )
    count = len(ids) if word.vectors is None else word.vectors
    rows = [ids[place % len(ids)] for place in range(count)]
    return {inversion.VECTORS: frozen[f"text_encoder.{TABLE}"][rows].detach().clone()}


def export_embedding(folder: Path, token: str, output: Path) -> None:
    """Write the averaged vectors of a run as one table by the name of its word, f32: so A1111's web UI,
    ComfyUI and diffusers read it. Raises OutputError if the system refuses."""
    vectors = averaged(folder)[inversion.VECTORS]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(output.parent, error) from error
    safetensors.write(output, {token: vectors.numpy()}, {"format": "pt"})


def _templates(word: NewWord, folder: CaptionedPictures) -> tuple[str, ...]:
    """For pictures that have captions. Prints what a person may not expect of the others."""
    silent = [entry.name for entry in folder.entries if not entry.caption]
    captioned = len(folder.entries) - len(silent)
    saying = [template for template in word.templates if CAPTION in template]
    if saying and silent:
        raise InvalidRequest(f"template '{saying[0]}' contains {CAPTION}, but '{silent[0]}' has no text file")
    if word.templates and captioned and not saying:
        print(f"{captioned} captions are not used, because no template contains {CAPTION}")
    if not word.templates and captioned and silent:
        print(f"{len(silent)} of {len(folder.entries)} pictures have no caption: {', '.join(silent[:5])}")
    return word.templates or WITH_CAPTIONS


def _caption(path: Path | None) -> str:
    """What the text file beside a picture says; nothing if there is none."""
    if path is None:
        return ""
    try:
        return caption_file(path)
    except Unusable as unusable:
        raise InvalidRequest(f"'{path}': {unusable.reason} {unusable.detail}".rstrip()) from unusable
