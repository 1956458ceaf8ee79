"""Fine-tuning of an existing model on a user's pictures.

The pictures keep their shapes (see `buckets`) and are encoded once. UNet and text encoder are trained, the
autoencoder is not. Supported are models with one text encoder: SD 1.x, SD 2.x, the starter.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

import pochade
from pochade.checkpoints.write import write_component
from pochade.configs.networks import TextEncoderConfig
from pochade.errors import InvalidRequest
from pochade.generation.decoding import from_image
from pochade.images.decode import on_white
from pochade.pipeline.pipeline import Pipeline
from pochade.settings import starter_folder
from pochade.training.corpus import Corpus, CorpusEntry
from pochade.training.data import buckets, captions
from pochade.training.data.buckets import TOO_SMALL, Bucket
from pochade.training.data.examples import BucketedSet
from pochade.training.data.tokenizing import tokenize_with
from pochade.training.export import halves, part
from pochade.training.loop import TrainingPlan, averaged, run_record
from pochade.training.loop.stage import TrainingStage
from pochade.training.losses import diffusion
from pochade.training.parameters import Parameters

ENLARGEMENT = 1.5
"""Largest factor by which a picture may be enlarged to fill its bucket; smaller pictures are left out."""
SAMPLED = 1000
"""About how many numbers of each tensor go into a model's digest."""


class Pictures(Protocol):
    """Pictures with their entries; a `Corpus` is one."""

    @property
    def entries(self) -> Sequence[CorpusEntry]: ...

    def picture(self, index: int) -> NDArray[np.uint8]:
        """(height, width, 3 or 4)"""

    def content(self, index: int) -> bytes:
        """Bytes that change whenever the picture's pixels do."""


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """The model, the corpus, the run's folder and the device of a fine-tuning."""

    model: Path | None  # None: the embedded starter
    corpus: Corpus
    folder: Path
    device: str = "cpu"
    with_text_encoder: bool = True


def finetuning_stage(tuning: FineTuning, batch: int = 4, rate: float = 1e-5) -> TrainingStage:
    """The training stage; `export_finetuned` writes the result.

    Raises InvalidRequest for SDXL and its refiner, or if no picture is large enough.
    """
    pipeline = _open(tuning)
    provenance = {
        "kind": "fine-tuning",
        "text encoder": "trained" if tuning.with_text_encoder else "left as it is",
        "model": digest_of_model(pipeline),
        "pictures": digest_of_pictures(tuning.corpus, words),
    }
    run_record.check(tuning.folder, provenance)
    networks = pipeline.networks
    text, picture = networks.text_encoder.config, networks.unet_config
    assert isinstance(text, TextEncoderConfig)
    plan = TrainingPlan(
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
    return TrainingStage(loss=loss, parameters=first, plan=plan, folder=tuning.folder, provenance=provenance)


def _open(tuning: FineTuning) -> Pipeline:
    if tuning.model is not None and tuning.model.is_file():
        raise InvalidRequest(
            f"'{tuning.model}' is a single file; fine-tuning starts from a diffusers folder, which"
            f" 'pochade models convert {tuning.model} FOLDER' makes of it"
        )
    return open_model(tuning.model, tuning.device)


def open_model(model: Path | None, device: str) -> Pipeline:
    """The model, in f32 on torch; None is the starter. Raises InvalidRequest if it cannot be trained."""
    pipeline = pochade.load(model, engine="torch", precision="f32", device=device)
    if not pipeline.model.family.trained_here:
        raise InvalidRequest(
            f"'{model}' is {pipeline.model.family.label}; training is for models with one text encoder, "
            "such as SD 1.5, SD 2.1 and the starter"
        )
    if pipeline.networks.traits.channels != pipeline.networks.autoencoder_config.latent_channels:
        raise InvalidRequest(
            f"the UNet of '{model}' takes more than a latent (an inpainting model?); "
            "training is for text-to-image models"
        )
    return pipeline


def digest_of_pictures(pictures: Pictures, caption: Callable[[CorpusEntry], str]) -> str:
    """A digest (16 hex digits) of the pictures, their splits and their captions.

    caption: returns the caption of an entry.
    """
    digest = hashlib.sha256()
    for index, entry in enumerate(pictures.entries):
        content = pictures.content(index)
        about = [entry.split, entry.width, entry.height, len(content), caption(entry)]
        digest.update(json.dumps(about).encode() + content)
    return digest.hexdigest()[:16]


def digest_of_model(pipeline: Pipeline) -> str:
    """A digest (16 hex digits) of the weights, independent of where the files are.

    It samples some numbers of each tensor: training and merging change nearly all of them.
    """
    networks = pipeline.networks
    parts = {"text": networks.text_encoder, "unet": networks.unet, "autoencoder": networks.autoencoder}
    digest = hashlib.sha256()
    for part_name, network in parts.items():
        for name in sorted(network.tensors):
            flat = np.asarray(network.tensors[name]).reshape(-1)
            some = np.ascontiguousarray(flat[:: max(1, flat.size // SAMPLED)], np.float32)
            digest.update(f"{part_name} {name} {flat.size} ".encode() + some.tobytes())
    return digest.hexdigest()[:16]


def prediction(pipeline: Pipeline) -> diffusion.Prediction:
    """The prediction type of the model. Raises InvalidRequest for one that the loss does not support."""
    kind = pipeline.checkpoint.scheduler.get("prediction_type", "epsilon")
    if kind == "v_prediction":
        return "v_prediction"
    if kind == "epsilon":
        return "epsilon"
    raise InvalidRequest(f"training a model that predicts '{kind}' is not supported; epsilon and v are")


def parameters(pipeline: Pipeline, device: str) -> Parameters:
    """`text_encoder.*` and `unet.*` of a loaded model, copied, f32."""
    networks = {"text_encoder": pipeline.networks.text_encoder, "unet": pipeline.networks.unet}
    return {
        f"{prefix}.{name}": torch.from_numpy(np.array(network.tensors[name], np.float32)).to(device)
        for prefix, network in networks.items()
        for name in network.tensors
    }


def latents_of(
    pipeline: Pipeline, corpus: Pictures, caption: Callable[[CorpusEntry], str] | None = None
) -> BucketedSet:
    """The training pictures of a corpus, encoded, each in the bucket of its shape.

    caption: what is said of each (None: see `words`).
    Raises InvalidRequest if none is large enough for the model.
    """
    latents: dict[Bucket, list[torch.Tensor]] = {}
    texts: dict[Bucket, list[str]] = {}
    for index, bucket in tqdm(placed(pipeline, corpus), desc="encoding", unit="picture", disable=None):
        fitted, _ = buckets.fit(on_white(Image.fromarray(corpus.picture(index))), bucket)
        latents.setdefault(bucket, []).append(encoded(pipeline, fitted))
        texts.setdefault(bucket, []).append((caption or words)(corpus.entries[index]))
    used = buckets.ordered(latents)
    return BucketedSet(
        latents=tuple(torch.stack(latents[bucket]) for bucket in used),
        captions=tuple(tuple(texts[bucket]) for bucket in used),
    )


def encoded(pipeline: Pipeline, image: Image.Image) -> torch.Tensor:
    """The scaled latent of a picture, (C, h, w), f16."""
    return torch.from_numpy(pipeline.networks.encode(from_image(image)[None])[0]).half()


def placed(pipeline: Pipeline, corpus: Pictures) -> list[tuple[int, Bucket]]:
    """The training pictures that are large enough for the model, and the bucket of each.

    Raises InvalidRequest if none is.
    """
    networks = pipeline.networks
    factor = networks.autoencoder_config.factor
    side = trained_side(pipeline)
    multiple = factor << (len(networks.unet_config.widths) - 1)
    choices = buckets.buckets(side * side, multiple)
    chosen = [index for index, entry in enumerate(corpus.entries) if entry.split == "train"]
    sizes = [(corpus.entries[index].width, corpus.entries[index].height) for index in chosen]
    assigned = buckets.assign(sizes, choices, enlargement=ENLARGEMENT)
    small = int((assigned == TOO_SMALL).sum())
    if not chosen:
        raise InvalidRequest(
            f"all {len(corpus.entries)} pictures are held out, so there is none to train on; make the"
            " training set again with --held-out 0, or with more pictures"
        )
    if small == len(chosen):
        raise InvalidRequest(
            f"none of {small} pictures is large enough: this model was trained at {side} x {side} px, and "
            f"pictures are enlarged at most {ENLARGEMENT:g} times; provide larger ones"
        )
    if small:
        print(f"{small} of {len(chosen)} pictures are too small for {side} x {side} px and are skipped")
    return [
        (index, choices[number])
        for index, number in zip(chosen, assigned, strict=True)
        if number != TOO_SMALL
    ]


def trained_side(pipeline: Pipeline) -> int:
    """The side of the square pictures that the model was trained at, px."""
    return pipeline.networks.traits.side


def words(entry: CorpusEntry) -> str:
    """The caption that came with a picture, or the plain one of a cut-out."""
    return entry.caption or f"{captions.noun_phrase(entry)}, {entry.style}"


def export_finetuned(tuning: FineTuning, output: Path) -> None:
    """Write the model with its newly learned, averaged weights, f16, as a diffusers folder."""
    pipeline = _open(tuning)
    checkpoint, learned = pipeline.checkpoint, averaged(tuning.folder)
    source = tuning.model or starter_folder()
    ignored = shutil.ignore_patterns("unet", "text_encoder", "*.md", ".*")
    shutil.copytree(source, output, dirs_exist_ok=True, ignore=ignored)
    write_component(output / "unet", checkpoint.unet.config, halves(part(learned, "unet.")))
    text = halves(part(learned, "text_encoder."))
    write_component(output / "text_encoder", checkpoint.text_encoder.config, text, "model.safetensors")
