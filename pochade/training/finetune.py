"""Fine-tuning: a model that exists goes on learning, from a person's own pictures.

The pictures keep their shapes (see `buckets`) and are encoded once. UNet and text encoder learn, the
autoencoder stays. Models with one text encoder can be trained so: SD 1.x, SD 2.x, the starter.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image
from tqdm import tqdm

import pochade
from pochade.checkpoints.write import write_component
from pochade.errors import InvalidRequest
from pochade.images.opening import on_white
from pochade.models.config import TextEncoderConfig
from pochade.pipeline.drawing.pictures import from_image
from pochade.pipeline.loading.load import starter_folder
from pochade.pipeline.pipeline import Pipeline
from pochade.training.corpus import Corpus, Entry
from pochade.training.data import buckets, captions
from pochade.training.data.buckets import TOO_SMALL
from pochade.training.data.tokenizing import tokenize_with
from pochade.training.export import halves, part
from pochade.training.loop import Plan, averaged
from pochade.training.loop.piece import Piece
from pochade.training.losses import diffusion
from pochade.training.parameters import Parameters

ENLARGEMENT = 1.5
"""How much a picture may be enlarged to fill its bucket; smaller ones are left out."""


@dataclass(frozen=True, kw_only=True)
class BucketedSet:
    """Latents of several sizes: one tensor (N_b, C, h_b, w_b), f16, and as many captions for each bucket."""

    latents: tuple[torch.Tensor, ...]
    captions: tuple[tuple[str, ...], ...]

    def batch(self, count: int, rng: Generator) -> tuple[torch.Tensor, list[str]]:
        """As in `examples.Examples`: all from one bucket, which comes up as often as it has pictures."""
        assigned = np.repeat(np.arange(len(self.latents)), [len(each) for each in self.latents])
        bucket, members = buckets.draw(assigned, count, rng)
        rows = members - int(np.flatnonzero(assigned == bucket)[0])
        return self.latents[bucket][rows].float(), [self.captions[bucket][int(row)] for row in rows]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What is trained, on what, where its states and logs lie, and on what it computes."""

    model: Path | None  # None: the embedded starter
    corpus: Corpus
    folder: Path
    device: str = "cpu"
    with_text_encoder: bool = True


def finetuning(tuning: Tuning, batch: int = 4, rate: float = 1e-5) -> Piece:
    """The training; when it is done, `export_finetuned` writes the model.

    Raises InvalidRequest for SDXL and its refiner, or if no picture is large enough.
    """
    pipeline = _open(tuning)
    networks = pipeline.networks
    text, picture = networks.text_encoder.config, networks.unet_config
    assert isinstance(text, TextEncoderConfig)
    plan = Plan(
        steps=1,
        learning_rate=rate,
        slower={"text_encoder.": 0.5 if tuning.with_text_encoder else 0.0},
        batch=batch,
        save_every=250,
        log_every=10,
    )
    loss = diffusion.loss(
        text,
        picture,
        pipeline.schedule,
        latents_of(pipeline, tuning.corpus),
        tokenize_with(pipeline.tokenizers[0]),
        batch=batch,
        repeats=1,
        prediction=prediction(pipeline),
        device=tuning.device,
    )
    first = parameters(pipeline, tuning.device)
    return Piece(loss=loss, parameters=first, plan=plan, folder=tuning.folder)


def _open(tuning: Tuning) -> Pipeline:
    if tuning.model is not None and tuning.model.is_file():
        raise InvalidRequest(
            f"'{tuning.model}' is a single file; fine-tuning starts from a diffusers folder, which"
            f" 'pochade models convert {tuning.model} FOLDER' makes of it"
        )
    pipeline = pochade.load(tuning.model, engine="torch", precision="f32", device=tuning.device)
    if pipeline.networks.unet_config.added_width is not None:
        raise InvalidRequest(
            f"'{tuning.model}' is SDXL or its refiner; fine-tuning is for models with one text encoder, "
            "such as SD 1.5, SD 2.1 and the starter"
        )
    if pipeline.networks.unet_config.in_channels != pipeline.networks.autoencoder_config.latent_channels:
        raise InvalidRequest(
            f"the UNet of '{tuning.model}' takes more than a latent (an inpainting model?); "
            "fine-tuning is for text-to-image models"
        )
    return pipeline


def prediction(pipeline: Pipeline) -> diffusion.Prediction:
    """What the model was trained to predict. Raises InvalidRequest for what the loss does not know."""
    kind = pipeline.checkpoint.scheduler.get("prediction_type", "epsilon")
    if kind == "v_prediction":
        return "v_prediction"
    if kind == "epsilon":
        return "epsilon"
    raise InvalidRequest(f"fine-tuning a model that predicts '{kind}' is not supported; epsilon and v are")


def parameters(pipeline: Pipeline, device: str) -> Parameters:
    """`text_encoder.*` and `unet.*` of a loaded model, copied, f32."""
    networks = {"text_encoder": pipeline.networks.text_encoder, "unet": pipeline.networks.unet}
    return {
        f"{prefix}.{name}": torch.from_numpy(np.array(network.tensors[name], np.float32)).to(device)
        for prefix, network in networks.items()
        for name in network.tensors
    }


def latents_of(pipeline: Pipeline, corpus: Corpus) -> BucketedSet:
    """The training pictures of a corpus, encoded, each in the bucket of its shape.

    Raises InvalidRequest if none is large enough for the model.
    """
    networks = pipeline.networks
    factor = networks.autoencoder_config.factor
    side = networks.unet_config.sample_size * factor
    multiple = factor << (len(networks.unet_config.widths) - 1)
    choices = buckets.buckets(side * side, multiple)
    chosen = [index for index, entry in enumerate(corpus.entries) if entry.split == "train"]
    sizes = [(corpus.entries[index].width, corpus.entries[index].height) for index in chosen]
    assigned = buckets.assign(sizes, choices, enlargement=ENLARGEMENT)
    small = int((assigned == TOO_SMALL).sum())
    if small == len(chosen):
        raise InvalidRequest(
            f"none of {small} pictures is large enough: this model was trained at {side} x {side} px, and "
            f"pictures are enlarged at most {ENLARGEMENT:g} times; bring larger ones"
        )
    if small:
        print(f"{small} of {len(chosen)} pictures are too small for {side} x {side} px and left out")
    latents: dict[int, list[torch.Tensor]] = {}
    texts: dict[int, list[str]] = {}
    for index, bucket in zip(
        tqdm(chosen, desc="encoding", unit="picture", disable=None), assigned, strict=True
    ):
        if bucket == TOO_SMALL:
            continue
        fitted, _ = buckets.fit(on_white(Image.fromarray(corpus.picture(index))), choices[bucket])
        latent = torch.from_numpy(networks.encode(from_image(fitted)[None])[0]).half()
        latents.setdefault(int(bucket), []).append(latent)
        texts.setdefault(int(bucket), []).append(words(corpus.entries[index]))
    used = sorted(latents)
    return BucketedSet(
        latents=tuple(torch.stack(latents[bucket]) for bucket in used),
        captions=tuple(tuple(texts[bucket]) for bucket in used),
    )


def words(entry: Entry) -> str:
    """The caption that came with a picture, or the plain one of a cut-out."""
    return entry.caption or f"{captions.noun_phrase(entry)}, {entry.style}"


def export_finetuned(tuning: Tuning, output: Path) -> None:
    """Write the model with its newly learned, averaged weights, f16, as a diffusers folder."""
    pipeline = _open(tuning)
    checkpoint, learned = pipeline.checkpoint, averaged(tuning.folder)
    source = tuning.model or starter_folder()
    ignored = shutil.ignore_patterns("unet", "text_encoder", "*.md", ".*")
    shutil.copytree(source, output, dirs_exist_ok=True, ignore=ignored)
    write_component(output / "unet", checkpoint.unet.config, halves(part(learned, "unet.")))
    text = halves(part(learned, "text_encoder."))
    write_component(output / "text_encoder", checkpoint.text_encoder.config, text, "model.safetensors")
