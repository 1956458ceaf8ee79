"""A checkpoint made ready to compute: networks on an engine, tokenizers, noise schedule, prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pochade.checkpoints.fingerprint import remembered_hash
from pochade.checkpoints.folder import Checkpoint
from pochade.diffusion.parametrization import Parametrization, find_parametrization
from pochade.diffusion.schedule import NoiseSchedule, noise_schedule
from pochade.errors import InvalidCheckpoint
from pochade.models.config import TextEncoderConfig
from pochade.pipeline.loading.graphs import CompiledGraphs
from pochade.pipeline.loading.networks import Networks, make_networks
from pochade.prompts.clip import clip_tokenizer
from pochade.prompts.tokenizer import Tokenizer
from pochade.prompts.tokenizer_files import load_tokenizer
from pochade.settings import cache_dir


@dataclass(frozen=True, eq=False, kw_only=True)
class Model:
    """Everything that draws with a checkpoint. tokenizers: one for each text encoder."""

    checkpoint: Checkpoint
    networks: Networks
    tokenizers: Sequence[Tokenizer]
    schedule: NoiseSchedule
    parametrization: Parametrization

    @cached_property
    def hash(self) -> str | None:
        """The first ten digits of the UNet file's SHA-256; sharded weights have no such name."""
        files = self.checkpoint.unet.files
        return remembered_hash(files[0], cache_dir() / "hashes.json") if len(files) == 1 else None

    @property
    def title(self) -> str:
        """ "name [hash]", as A1111 shows models."""
        return self.checkpoint.name if self.hash is None else f"{self.checkpoint.name} [{self.hash}]"


def make_model(
    checkpoint: Checkpoint, engine: Any, path: Path, *, graphs: CompiledGraphs | None = None
) -> Model:
    """Nothing is compiled yet. path: for messages. graphs: as for `make_networks`.

    Raises InvalidCheckpoint for what is not supported.
    """
    networks = make_networks(checkpoint, engine, graphs=graphs)
    _check_channels(networks, path)
    tokenizers = tokenizers_of(checkpoint)
    _check_vocabularies(tokenizers, networks, path)
    return Model(
        checkpoint=checkpoint,
        networks=networks,
        tokenizers=tokenizers,
        schedule=_schedule(checkpoint.scheduler),
        parametrization=find_parametrization(checkpoint.scheduler.get("prediction_type", "epsilon")),
    )


def tokenizers_of(checkpoint: Checkpoint) -> list[Tokenizer]:
    """One for each text encoder."""
    folders = [checkpoint.tokenizer, checkpoint.tokenizer_2]
    encoders = 1 if checkpoint.text_encoder_2 is None else 2
    return [
        clip_tokenizer(checkpoint.pad_ids[i]) if folder is None else load_tokenizer(folder)
        for i, folder in enumerate(folders[:encoders])
    ]


def _check_channels(networks: Networks, path: Path) -> None:
    """The UNet must take a latent, or with it a mask and the masked picture's latent, and nothing else."""
    given, latent = networks.unet_config.in_channels, networks.autoencoder_config.latent_channels
    if given not in (latent, 2 * latent + 1):
        raise InvalidCheckpoint(
            f"'{path}': its UNet takes {given} channels; {latent} (a latent) and {2 * latent + 1} (for"
            " inpainting) are supported. It may be a model for depth maps, upscaling or instructions"
        )


def _check_vocabularies(tokenizers: Sequence[Tokenizer], networks: Networks, path: Path) -> None:
    """Each tokenizer's words must have rows in its text encoder's table."""
    encoders = (networks.text_encoder, networks.text_encoder_2)
    for tokenizer, encoder in zip(tokenizers, encoders, strict=False):
        assert encoder is not None and isinstance(encoder.config, TextEncoderConfig)
        ids = [*tokenizer.vocabulary.values(), *(special.id for special in tokenizer.specials)]
        if max(ids) >= encoder.config.vocabulary:
            raise InvalidCheckpoint(
                f"'{path}': its text encoder has {encoder.config.vocabulary:,} words, its tokenizer numbers"
                f" them up to {max(ids):,}: they are of different models, or the file is incomplete"
            )


def _schedule(json: Mapping[str, Any]) -> NoiseSchedule:
    """From a `scheduler/scheduler_config.json` as diffusers writes it."""
    if json.get("trained_betas") is not None:
        raise InvalidCheckpoint("scheduler_config.json: trained_betas is not supported; beta_schedule is")
    try:
        numbers = (
            float(json.get("beta_start", 0.00085)),
            float(json.get("beta_end", 0.012)),
            int(json.get("num_train_timesteps", 1000)),
        )
    except (TypeError, ValueError) as error:
        raise InvalidCheckpoint(
            f"scheduler_config.json: a number of the schedule is not a number ({error})"
        ) from error
    zero_snr = bool(json.get("rescale_betas_zero_snr", False))
    return noise_schedule(json.get("beta_schedule", "scaled_linear"), *numbers, zero_snr)
