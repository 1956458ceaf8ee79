"""The starter: its sizes, its pictures, and the three pieces of its training.

    corpus -> autoencoder -> latents -> text encoder -> text encoder and UNet -> a diffusers folder
                        \\-> a longer trained decoder ------------------------^

A run is a folder: `autoencoder/`, `text/`, `diffusion/` and `decoder/` (states, logs), `tokenizer/`.
Each piece resumes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pochade.diffusion.schedule import noise_schedule
from pochade.models.config import AutoencoderConfig, TextEncoderConfig, UNetConfig
from pochade.prompts.chunks import chunk, end_positions
from pochade.prompts.tokenizer import Tokenizer
from pochade.prompts.tokenizer_files import load_tokenizer
from pochade.training import autoencoder, diffusion, text
from pochade.training.captions import caption
from pochade.training.corpus import Corpus, Entry, on_background
from pochade.training.loop import Plan, Progress, averaged, train
from pochade.training.parameters import Parameters
from pochade.training.vocabulary import train_vocabulary, training_texts

SIDE = 64
MARGIN = 2
"""Pixels of white around a picture."""

CROP_SIZES = (60, 72, 96)
CROP_CANVAS = 80
"""What the autoencoder sees: crops of SIDE from every picture at three sizes on canvases of this side."""

AUTOENCODER = AutoencoderConfig(widths=(24, 48, 96, 128), layers=1, groups=8)
UNET = UNetConfig(
    widths=(128, 192, 256),
    down_depths=((1,), (1,), (0,)),
    mid_depth=1,
    up_depths=((0, 0), (1, 1), (1, 1)),
    heads=(4, 6, 8),
    context_width=256,
    groups=16,
    sample_size=SIDE // AUTOENCODER.factor,
)
DECODING = ("decoder.", "post_quant_conv.")
LEFT_OUT_GROUPS = frozenset({"people-body", "symbols"})
STYLE = "3d style"


def text_config(tokenizer: Tokenizer) -> TextEncoderConfig:
    """The text encoder for a vocabulary."""
    return TextEncoderConfig(
        vocabulary=len(tokenizer.vocabulary),
        width=256,
        feed_forward_width=1024,
        layers=3,
        heads=4,
        end_token=tokenizer.end_id,
    )


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where a training reads and writes, and on what it computes."""

    corpus: Corpus
    folder: Path
    device: str = "cpu"

    @property
    def tokenizer_folder(self) -> Path:
        return self.folder / "tokenizer"


def train_autoencoder(run: Run, steps: int, *, batch: int = 8, rate: float = 1.2e-3) -> Iterator[Progress]:
    """The first piece, on all styles: what it learns of pictures serves every later starter."""
    parameters = autoencoder.fresh(AUTOENCODER, seed=0)
    for name, tensor in parameters.items():
        parameters[name] = tensor.to(run.device)
    plan = Plan(
        steps=steps,
        learning_rate=rate,
        warmup=100,
        betas=(0.9, 0.95),
        averaging=0.998,
        save_every=250,
        log_every=25,
    )
    loss = autoencoder.loss(AUTOENCODER, crop_canvases(run.corpus), SIDE, batch, device=run.device)
    return train(loss, parameters, plan, run.folder / "autoencoder")


def train_decoder(run: Run, steps: int, *, batch: int = 8, rate: float = 8e-4) -> Iterator[Progress]:
    """A piece that may come at any time after the first: a better decoder for the same latents."""
    config, parameters = finished_autoencoder(run, with_decoder=False)
    pictures = np.stack([framed(run.corpus, index) for index in range(len(run.corpus))])
    latents = autoencoder.encode_all(config, parameters, pictures)
    parts = {name: tensor.to(run.device) for name, tensor in parameters.items() if name.startswith(DECODING)}
    plan = Plan(steps=steps, learning_rate=rate, warmup=100, averaging=0.998, save_every=250, log_every=25)
    loss = autoencoder.decoder_loss(config, latents, pictures, batch, device=run.device)
    return train(loss, parts, plan, run.folder / "decoder")


def finished_autoencoder(run: Run, *, with_decoder: bool = True) -> tuple[AutoencoderConfig, Parameters]:
    """The averaged autoencoder, with latents of zero mean and unit variance, and the later decoder if any."""
    parameters = averaged(run.folder / "autoencoder")
    chosen = chosen_entries(run.corpus)
    pictures = np.stack([framed(run.corpus, index) for index in chosen])
    latents = autoencoder.encode_all(AUTOENCODER, parameters, pictures)
    config, folded = autoencoder.fold_scale(AUTOENCODER, parameters, latents)
    if with_decoder and (run.folder / "decoder" / "state.safetensors").exists():
        folded.update(averaged(run.folder / "decoder"))
    return config, folded


def train_text(run: Run, steps: int, *, batch: int = 96, rate: float = 1e-3) -> Iterator[Progress]:
    """The second piece: the text encoder learns to tell captions apart, before it meets the UNet."""
    tokenizer = open_tokenizer(run)
    config = text_config(tokenizer)
    shown = examples(run)
    first = text.fresh(config, tuple(shown.latents.shape[2:]), seed=0)
    parameters = {name: tensor.to(run.device) for name, tensor in first.items()}
    plan = Plan(steps=steps, learning_rate=rate, warmup=50, averaging=0.99, save_every=100, log_every=25)
    loss = text.loss(config, shown, tokenize_with(tokenizer), batch=batch, device=run.device)
    return train(loss, parameters, plan, run.folder / "text")


def train_diffusion(run: Run, steps: int, *, batch: int = 32, rate: float = 6e-4) -> Iterator[Progress]:
    """The third piece: text encoder and UNet on the latents of one style."""
    tokenizer = open_tokenizer(run)
    config = text_config(tokenizer)
    first = diffusion.fresh(config, UNET, seed=0)
    taught = averaged(run.folder / "text")
    first.update((name, tensor) for name, tensor in taught.items() if name in first)
    parameters = {name: tensor.to(run.device) for name, tensor in first.items()}
    plan = Plan(
        steps=steps,
        learning_rate=rate,
        averaging=0.9985,
        slower={"text_encoder.": 0.5},
        save_every=250,
    )
    loss = diffusion.loss(
        config,
        UNET,
        noise_schedule(),
        examples(run),
        tokenize_with(tokenizer),
        batch=batch,
        device=run.device,
    )
    return train(loss, parameters, plan, run.folder / "diffusion")


def open_tokenizer(run: Run) -> Tokenizer:
    """The run's vocabulary, learned from the captions the first time."""
    if not (run.tokenizer_folder / "vocab.json").exists():
        train_vocabulary(training_texts(run.corpus), run.tokenizer_folder)
    return load_tokenizer(run.tokenizer_folder)


def tokenize_with(tokenizer: Tokenizer) -> diffusion.Tokenize:
    """Texts to ids (B, 77) and end positions (B,); captions longer than a chunk lose their tail."""

    def tokenize(texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        room = tokenizer.max_length - 2
        rows = np.concatenate([chunk(tokenizer.encode(each)[:room], tokenizer) for each in texts])
        return rows, end_positions(rows, tokenizer.end_id)

    return tokenize


def examples(run: Run) -> diffusion.Examples:
    """Latents of every chosen picture and of its mirror image (twice the same where that would lie)."""
    config, parameters = finished_autoencoder(run)
    chosen = chosen_entries(run.corpus)
    pictures = [framed(run.corpus, index) for index in chosen]
    views = [
        (picture, picture[:, ::-1] if run.corpus.entries[index].mirrorable else picture)
        for index, picture in zip(chosen, pictures, strict=True)
    ]
    latents = autoencoder.encode_all(config, parameters, np.concatenate([np.stack(pair) for pair in views]))

    def describe(number: int, rng: np.random.Generator) -> str:
        return caption(run.corpus.entries[chosen[number]], rng)

    return diffusion.Examples(latents=latents.reshape(len(chosen), 2, *latents.shape[1:]), caption=describe)


def chosen_entries(corpus: Corpus) -> list[int]:
    """What the first starter draws: one style, without people (hundreds of near-duplicates) and signs."""

    def wanted(entry: Entry) -> bool:
        return entry.style == STYLE and entry.group not in LEFT_OUT_GROUPS

    return [index for index, entry in enumerate(corpus.entries) if wanted(entry)]


def framed(corpus: Corpus, index: int) -> NDArray[np.uint8]:
    """A picture on white with a margin: (SIDE, SIDE, 3)."""
    return placed(corpus, index, SIDE - 2 * MARGIN, SIDE)


def crop_canvases(corpus: Corpus) -> NDArray[np.uint8]:
    """(N * sizes, CROP_CANVAS, CROP_CANVAS, 3): every picture at every size."""
    return np.stack(
        [placed(corpus, index, size, CROP_CANVAS) for size in CROP_SIZES for index in range(len(corpus))]
    )


def placed(corpus: Corpus, index: int, size: int, canvas: int) -> NDArray[np.uint8]:
    """A picture at `size` in the middle of a white canvas, cut where it is larger."""
    picture = Image.fromarray(on_background(corpus.picture(index)))
    sheet = Image.new("RGB", (canvas, canvas), "white")
    sheet.paste(picture.resize((size, size), Image.Resampling.LANCZOS), ((canvas - size) // 2,) * 2)
    return np.asarray(sheet)
