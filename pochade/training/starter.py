"""The starter model: its sizes and the stages of its training.

    corpus -> autoencoder on crops -> autoencoder on whole pictures -> latents
    latents -> text encoder -> text encoder and UNet -> a diffusers folder
    autoencoder -> a longer trained one for nearly the same latents ----^

A run is a folder that holds one folder of states and logs for each stage, the `tokenizer/` and the latents.
Every stage can be interrupted and resumed.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pochade.configs.networks import AutoencoderConfig, TextEncoderConfig
from pochade.diffusion.schedule import noise_schedule
from pochade.errors import InvalidRequest
from pochade.pipeline.loader import load
from pochade.prompts.tokenizer import Tokenizer
from pochade.prompts.tokenizer_files import load_tokenizer
from pochade.training import sample_sheets
from pochade.training.corpus import Corpus
from pochade.training.data.composed_latents import WithSmallObjects, small_objects
from pochade.training.data.examples import (
    Encode,
    LatentSet,
    cached_encoder,
    composed_pictures,
    encoder,
    mixture,
    single_pictures,
)
from pochade.training.data.selection import (
    framed,
    random_view,
    scene_groups,
    single_entries,
    training_entries,
)
from pochade.training.data.tokenizing import tokenize_with
from pochade.training.data.vocabulary import train_vocabulary, training_texts
from pochade.training.export import export, part
from pochade.training.loop import TrainingPlan, averaged, portable, state
from pochade.training.loop.parallel import local_device
from pochade.training.loop.stage import TrainingStage
from pochade.training.losses import adversary, autoencoder, diffusion, layout, text
from pochade.training.losses.adversary import Adversary
from pochade.training.parameters import Parameters
from pochade.training.starter_config import CONTEXT_WIDTH, FIRST, StarterConfig

TOKENS = 32
"""Length of a chunk of a prompt. Captions are shorter, and every step of drawing looks at all of them."""

ADVERSARY = Adversary(weight=0.2)

NOISE = noise_schedule(beta_end=0.02)
"""Ends at sigma 66 instead of Stable Diffusion's 15. The fewer latents a picture has, the more noise it takes
to hide their mean, and so its background: at 15 the mean of 256 latents still stands out, the model learns
to copy it, and finds none in pure noise (Lin et al. 2023 for what that does to bright and dark pictures).
"""

SAMPLES = (
    "a fox, 3d style", "a red apple, flat style", "a castle, noto style", "a smiling face, 3d style",
    "a blue car, flat style", "two cats, noto style", "a dog to the left of a house, 3d style",
    "a star, on a purple background, flat style",
)  # fmt: skip
"""Prompts of the samples drawn while the diffusion model is trained."""

DECODING = ("decoder.", "post_quant_conv.")

MEASURED = 512
"""Number of pictures whose latents give the mean and deviation of the channels."""

SCENES = 8_000
SCENE_SHARE = 0.25
"""Number of composed pictures, and the probability that one is used instead of a single picture."""

SMALL_SHARE = 0.44
"""Probability that the diffusion model trains on a scene of small objects (`data.composed_latents`)."""


def text_config(tokenizer: Tokenizer) -> TextEncoderConfig:
    """The text encoder for a vocabulary."""
    return TextEncoderConfig(
        vocabulary=len(tokenizer.vocabulary),
        positions=TOKENS,
        width=CONTEXT_WIDTH,
        feed_forward_width=1024,
        layers=3,
        heads=4,
        end_token=tokenizer.end_id,
    )


@dataclass(frozen=True, kw_only=True)
class Run:
    """The corpus, the folder and the device of a training run, and the sizes of its networks.

    Raises InvalidRequest if the corpus has smaller pictures than the model.
    """

    corpus: Corpus
    folder: Path
    device: str = "cpu"
    config: StarterConfig = FIRST

    def __post_init__(self) -> None:
        if self.corpus.size < self.config.side:
            side = self.config.side
            raise InvalidRequest(
                f"the training set has pictures of {self.corpus.size} px, and this edition of the starter"
                f" draws {side} px; make one with 'pochade train corpus OUT --size {side}'"
            )

    @property
    def singles(self) -> list[int]:
        """The entries that are trained singly."""
        return single_entries(self.corpus, self.config.styles)

    @property
    def groups(self) -> list[list[int]]:
        """The entries that may share a scene."""
        return scene_groups(self.corpus, self.config.styles)

    @property
    def tokenizer_folder(self) -> Path:
        return self.folder / "tokenizer"


def crops(run: Run, batch: int = 8) -> TrainingStage:
    """First stage: the autoencoder on crops of pictures."""
    first = autoencoder.initialize(run.config.autoencoder, seed=0)
    return _autoencoder_stage(run, first, batch, 1.2e-3, run.config.crop_side, run.folder / "crops")


def whole_pictures(run: Run, batch: int = 8) -> TrainingStage:
    """Second stage: the same autoencoder on whole pictures."""
    first = averaged(run.folder / "crops")
    return _autoencoder_stage(run, first, batch, 8e-4, run.config.side, run.folder / "autoencoder")


def _autoencoder_stage(
    run: Run, first: Parameters, batch: int, rate: float, side: int, folder: Path
) -> TrainingStage:
    device, config, views = local_device(run.device), run.config.autoencoder, _views(run, side)
    return TrainingStage(
        loss=autoencoder.loss(config, views, batch, device=device),
        parameters=_moved(first, device),
        plan=replace(_autoencoder_plan(batch), learning_rate=rate),
        folder=folder,
        samples=sample_sheets.reconstructions(config, {}, views, folder / "samples", device=device),
    )


def _autoencoder_plan(batch: int) -> TrainingPlan:
    return TrainingPlan(
        steps=1,
        learning_rate=1e-3,
        warmup=100,
        betas=(0.9, 0.95),
        averaging=0.998,
        batch=batch,
        save_every=250,
        log_every=25,
    )


def _views(run: Run, crop: int) -> autoencoder.Draw:
    chosen = training_entries(run.corpus, run.config.styles)

    def draw(rng: Generator) -> NDArray[np.uint8]:
        return random_view(run.corpus, chosen, rng, run.config.side, crop)

    return draw


def text_pretraining(run: Run, batch: int = 96) -> TrainingStage:
    """Third stage: the text encoder learns to distinguish captions before it is trained with the UNet."""
    device, tokenizer = local_device(run.device), open_tokenizer(run)
    config, shown = text_config(tokenizer), examples(run)
    first = text.initialize(config, tuple(shown.latents.shape[1:]), seed=0)
    plan = TrainingPlan(
        steps=1, learning_rate=1e-3, warmup=50, averaging=0.99, batch=batch, save_every=100, log_every=25
    )
    loss = text.loss(config, shown, tokenize_with(tokenizer), batch=batch, device=device)
    return TrainingStage(loss=loss, parameters=_moved(first, device), plan=plan, folder=run.folder / "text")


def text_and_unet(run: Run, batch: int = 32) -> TrainingStage:
    """Fourth stage: text encoder and UNet on the latents."""
    device, tokenizer = local_device(run.device), open_tokenizer(run)
    config, shown = text_config(tokenizer), placed_examples(run)
    first = diffusion.initialize(config, run.config.unet, seed=0)
    pretrained = averaged(run.folder / "text")
    first.update((name, tensor) for name, tensor in pretrained.items() if name in first)
    plan = TrainingPlan(
        steps=1,
        learning_rate=6e-4,
        matrix_rate=run.config.matrix_rate,
        cooldown=0.45,
        averaging=0.9985,
        slower={"text_encoder.": 0.5},
        batch=batch,
        save_every=250,
    )
    loss = layout.loss(config, run.config.unet, NOISE, shown, tokenizer, batch=batch, device=device)
    folder = run.folder / "diffusion"

    def draw(parameters: Parameters, step: int) -> None:
        write_model(run, folder / "model", parameters)
        sample_sheets.drawn(folder / "model", folder / "samples", SAMPLES, step, device=device)

    return TrainingStage(loss=loss, parameters=_moved(first, device), plan=plan, folder=folder, samples=draw)


def refinement(run: Run, batch: int = 8) -> TrainingStage:
    """Optional stage after the latents are encoded: a better autoencoder for nearly the same latents."""
    config, anchor = finished_autoencoder(run, latest=False)
    device, folder = local_device(run.device), run.folder / "refined"
    views = _views(run, run.config.side)
    return TrainingStage(
        loss=autoencoder.anchored_loss(config, anchor, views, batch, device=device),
        parameters=_moved(anchor, device),
        plan=replace(_autoencoder_plan(batch), learning_rate=6e-4),
        folder=folder,
        samples=sample_sheets.reconstructions(config, {}, views, folder / "samples", device=device),
    )


def decoder_against_adversary(run: Run, batch: int = 8) -> TrainingStage:
    """Optional stage: the decoder against an adversary, for crisper pictures that differ more from the
    original pixel by pixel. Its weights are exported if they exist."""
    config, parameters = finished_autoencoder(run)
    device = local_device(run.device)
    views = _views(run, run.config.side)
    attempts = autoencoder.decoder_attempts(config, parameters, views, batch, device=device)
    first = {**_decoding(parameters), **adversary.initialize(ADVERSARY, seed=1)}
    folder = run.folder / "adversary"
    return TrainingStage(
        loss=adversary.loss(ADVERSARY, attempts),
        parameters=_moved(first, device),
        plan=replace(_autoencoder_plan(batch), learning_rate=2e-4, clip_apart=(adversary.PREFIX,)),
        folder=folder,
        samples=sample_sheets.reconstructions(config, parameters, views, folder / "samples", device=device),
    )


def _decoding(parameters: Parameters) -> Parameters:
    return {name: tensor for name, tensor in parameters.items() if name.startswith(DECODING)}


STAGES: Mapping[str, Callable[..., TrainingStage]] = MappingProxyType(
    {
        "crops": crops,
        "autoencoder": whole_pictures,
        "text": text_pretraining,
        "diffusion": text_and_unet,
        "refined": refinement,
        "adversary": decoder_against_adversary,
    }
)
"""The stages in order, by the names of their commands and folders."""


def finished_autoencoder(run: Run, *, latest: bool = True) -> tuple[AutoencoderConfig, Parameters]:
    """The averaged autoencoder, with latents of zero mean and unit variance.

    latest: include the training since the diffusion model's latents were encoded.
    """
    parameters = averaged(run.folder / "autoencoder")
    rng = np.random.default_rng(0)
    chosen = [int(index) for index in rng.choice(run.singles, size=MEASURED)]
    pictures = np.stack([framed(run.corpus, index, run.config.side) for index in chosen])
    latents = autoencoder.encode_all(run.config.autoencoder, parameters, pictures)
    config, folded = autoencoder.fold_scale(run.config.autoencoder, parameters, latents)
    if latest:
        for stage in ("refined", "adversary"):
            if state.exists(run.folder / stage):
                folded.update(adversary.without(averaged(run.folder / stage)))
    return config, folded


def write_model(run: Run, output: Path, weights: Parameters | None = None) -> None:
    """Write the current model of the run as a diffusers folder.

    weights: of text encoder and UNet; None uses the last saved ones.
    """
    weights = averaged(run.folder / "diffusion") if weights is None else weights
    export(
        output,
        text=(text_config(open_tokenizer(run)), part(weights, "text_encoder.")),
        unet=(run.config.unet, part(weights, "unet.")),
        autoencoder=finished_autoencoder(run),
        tokenizer=run.tokenizer_folder,
    )


def adopt(run: Run, model: Path, step: int) -> None:
    """Begin a run from a finished model of the starter's sizes, as if it had been trained for `step` steps.

    Raises InvalidRequest for a model of other sizes, OutputError if the system refuses to write.
    """
    pipeline = load(model, engine="torch", precision="f32", device="cpu")
    networks = pipeline.networks
    for name, here, there in (
        ("text encoder", text_config(pipeline.tokenizers[0]), networks.text_encoder.config),
        ("UNet", run.config.unet, networks.unet_config),
        ("autoencoder", replace(run.config.autoencoder, scale=1.0), networks.autoencoder_config),
    ):
        if here != there:
            raise InvalidRequest(
                f"the {name} of '{model}' has other sizes than the starter's ({there});"
                " 'pochade train finetune' trains any model"
            )
    shutil.copytree(model / "tokenizer", run.tokenizer_folder, dirs_exist_ok=True)
    for stage, prefixed in (
        ("autoencoder", {"": networks.autoencoder}),
        ("text", {"text_encoder.": networks.text_encoder}),
        ("diffusion", {"text_encoder.": networks.text_encoder, "unet.": networks.unet}),
    ):
        weights = {
            prefix + name: np.asarray(network.tensors[name])
            for prefix, network in prefixed.items()
            for name in network.tensors
        }
        portable.pack(weights, step if stage == "diffusion" else 0, run.folder / stage)


def _moved(parameters: Parameters, device: str) -> Parameters:
    return {name: tensor.to(device) for name, tensor in parameters.items()}


def open_tokenizer(run: Run) -> Tokenizer:
    """The run's tokenizer; its vocabulary is learned from the captions on first use."""
    if not (run.tokenizer_folder / "vocab.json").exists():
        texts = training_texts(run.corpus, training_entries(run.corpus, run.config.styles))
        train_vocabulary(texts, run.tokenizer_folder, size=run.config.vocabulary, max_length=TOKENS)
    return load_tokenizer(run.tokenizer_folder)


def examples(run: Run) -> LatentSet:
    """Single pictures and scenes; their latents are cached in the run's folder."""
    corpus, encode, side = run.corpus, _encoder(run), run.config.side
    singles = single_pictures(corpus, run.singles, lambda index: framed(corpus, index, side), encode)
    composed = composed_pictures(corpus, run.groups, SCENES, side, encode, seed=0)
    return mixture([singles, composed], [1 - SCENE_SHARE, SCENE_SHARE])


def placed_examples(run: Run) -> WithSmallObjects:
    """`examples`, mixed with scenes that are composed anew for every step."""
    small = small_objects(run.corpus, run.groups, run.config.side, _encoder(run), seed=5)
    return WithSmallObjects(others=examples(run), small=small, share=SMALL_SHARE)


def _encoder(run: Run) -> Encode:
    """Encode pictures with the run's autoencoder, and cache the latents in the run's folder."""
    config, parameters = finished_autoencoder(run, latest=False)
    device = local_device(run.device)
    encode = encoder(config, _moved(parameters, device), device=device)
    return cached_encoder(
        encode,
        run.folder,
        _fingerprint(parameters, run.corpus, run.singles),
    )


def _fingerprint(parameters: Parameters, corpus: Corpus, chosen: Sequence[int]) -> str:
    digest = hashlib.sha256(
        repr([(corpus.entries[i].code, corpus.entries[i].source) for i in chosen]).encode()
    )
    for index in range(len(corpus.entries)):  # scenes show others than those that are chosen to stand alone
        content = corpus.content(index)
        digest.update(f"{len(content)} ".encode() + content)
    for name, tensor in sorted(parameters.items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()
