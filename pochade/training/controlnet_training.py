"""Trains a ControlNet for an existing model, on pictures and the output of a preprocessor.

The model itself is not changed. Supported are models with one text encoder: SD 1.x, SD 2.x, the starter.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from pochade.checkpoints.write import write_component
from pochade.configs.networks import ControlNetConfig, TextEncoderConfig
from pochade.configs.write_json import describe_controlnet
from pochade.errors import InvalidRequest
from pochade.images.preprocessors import PREPROCESSORS, find_preprocessor
from pochade.pipeline.pipeline import Pipeline
from pochade.training.corpus import Corpus, load
from pochade.training.corpus.importers import gather
from pochade.training.data.buckets import Bucket
from pochade.training.data.controlnet_examples import ControlNetSet, composed, controlnet_set, corpus_pictures
from pochade.training.data.tokenizing import tokenize_with
from pochade.training.export import halves, part
from pochade.training.finetune import (
    FineTuning,
    digest_of_model,
    digest_of_pictures,
    encoded,
    open_model,
    parameters,
    placed,
    prediction,
    trained_side,
    words,
)
from pochade.training.loop import TrainingPlan, averaged, run_record
from pochade.training.loop.stage import TrainingStage
from pochade.training.losses import controlnet

HINT_WIDTHS = (16, 32, 96, 256)
"""Of the network before it for SD, from the picture's size downwards (Zhang et al. 2023, section 3.3)."""

LEAST_WIDTH = 8


@dataclass(frozen=True, kw_only=True)
class ControlNetTask:
    """The task of a ControlNet.

    condition: the preprocessor that makes its hints. scenes: number of composed pictures in addition to the
    corpus's own, which must consist of cut-outs.
    """

    condition: str = "canny"
    scenes: int = 0

    def __post_init__(self) -> None:
        if find_preprocessor(self.condition) == "none":
            known = ", ".join(name for name in PREPROCESSORS if name != "none")
            raise InvalidRequest(
                f"condition '{self.condition}' cannot be used, because it shows the picture itself; one"
                f" of: {known}"
            )
        if self.scenes < 0:
            raise InvalidRequest(f"scenes is {self.scenes}; it must be at least 0")


def training_pictures(path: Path, folder: Path, style: str | None = None) -> Corpus:
    """Open a training set; for a folder of captioned pictures, one is made in `folder`.

    style: use only pictures of this style. Raises InvalidRequest if none is left.
    """
    if (path / "manifest.json").exists():
        corpus = load(path)
    else:  # nothing looks at what would be held out of this set
        corpus = gather(folder / "pictures", [path], held_out=0.0)
    if style is None:
        return corpus
    styles = [name.strip() for name in style.split(",")]
    chosen = tuple(entry for entry in corpus.entries if entry.style in styles)
    if not chosen:
        known = ", ".join(sorted({entry.style for entry in corpus.entries} - {""})) or "none"
        raise InvalidRequest(f"no picture in '{path}' has the style '{style}'; there are: {known}")
    return replace(corpus, entries=chosen)


def controlnet_stage(
    tuning: FineTuning, control: ControlNetTask, batch: int = 4, rate: float = 1e-5
) -> TrainingStage:
    """The training stage; `export_controlnet` writes the result.

    Raises InvalidRequest as `finetune.open_model` does, or if no picture is large enough.
    """
    pipeline = open_model(tuning.model, tuning.device)
    provenance = {
        "kind": "ControlNet",
        "condition": control.condition,
        "scenes": str(control.scenes),
        "model": digest_of_model(pipeline),
        "pictures": digest_of_pictures(tuning.corpus, words),
    }
    run_record.check(tuning.folder, provenance)
    text, picture = pipeline.networks.text_encoder.config, pipeline.networks.unet_config
    assert isinstance(text, TextEncoderConfig)
    config, frozen = controlnet_for(pipeline), parameters(pipeline, tuning.device)
    plan = TrainingPlan(
        steps=1, learning_rate=rate, cooldown=0.3, batch=batch, save_every=250, log_every=25, averaging=0.998
    )
    loss = controlnet.loss(
        config,
        text,
        picture,
        frozen,
        pipeline.schedule,
        controlnet_pictures(pipeline, tuning, control),
        tokenize_with(pipeline.tokenizers[0]),
        batch=batch,
        prediction=prediction(pipeline),
        device=tuning.device,
    )
    first = {
        name: tensor.to(tuning.device) for name, tensor in controlnet.initialize(config, frozen, 0).items()
    }
    return TrainingStage(loss=loss, parameters=first, plan=plan, folder=tuning.folder, provenance=provenance)


def controlnet_for(pipeline: Pipeline) -> ControlNetConfig:
    """A ControlNet that fits a model: the copy of its way down, and before it a network that is halved in
    width until it is no wider than that: at the picture's full size it would cost more than all the rest."""
    picture, levels = pipeline.networks.unet_config, pipeline.networks.autoencoder_config.factor.bit_length()
    widths = (*HINT_WIDTHS, *HINT_WIDTHS[-1:] * levels)[:levels]
    while widths[-1] > picture.widths[0] and widths[-1] > LEAST_WIDTH:
        widths = tuple(max(LEAST_WIDTH, width // 2) for width in widths)
    return ControlNetConfig(unet=replace(picture, up_depths=()), hint_widths=widths)


def controlnet_pictures(pipeline: Pipeline, tuning: FineTuning, control: ControlNetTask) -> ControlNetSet:
    """The training pictures, encoded once and kept in the run's folder."""
    corpus, side = tuning.corpus, trained_side(pipeline)
    pictures = dict(
        corpus_pictures(corpus, placed(pipeline, corpus), lambda index: words(corpus.entries[index]))
    )
    if control.scenes:
        square = Bucket(side, side)
        pictures[square] = [*pictures.get(square, ()), *composed(corpus, control.scenes, side)]
    about = [(entry.source, entry.name, entry.row) for entry in corpus.entries]
    digest = hashlib.sha256(f"{about} {digest_of_pictures(corpus, words)}".encode()).hexdigest()
    return controlnet_set(
        pictures,
        control.condition,
        lambda image: encoded(pipeline, image),
        tuning.folder,
        key=f"{digest_of_model(pipeline)} {digest} {control.scenes}",
    )


def export_controlnet(tuning: FineTuning, output: Path) -> None:
    """Write the ControlNet's averaged weights, f16, as a diffusers folder."""
    config = describe_controlnet(controlnet_for(open_model(tuning.model, tuning.device)))
    write_component(output, config, halves(part(averaged(tuning.folder), controlnet.PREFIX)))
