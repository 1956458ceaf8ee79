"""Loading a model: from a path to a pipeline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pochade.checkpoints.folder import Checkpoint
from pochade.checkpoints.library import find
from pochade.checkpoints.read import read_checkpoint
from pochade.diffusion.parametrization import find_parametrization
from pochade.diffusion.schedule import NoiseSchedule, noise_schedule
from pochade.errors import InvalidCheckpoint
from pochade.pipeline.loading.choice import choose, make_engine
from pochade.pipeline.loading.networks import Networks, make_networks
from pochade.pipeline.pipeline import Pipeline
from pochade.prompts.clip import clip_tokenizer
from pochade.prompts.tokenizer import Tokenizer
from pochade.prompts.tokenizer_files import load_tokenizer
from pochade.settings import model_roots

STARTER = "starter"


def load(
    model: str | Path | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
    variant: str | None = None,
    compiled: bool = False,
    vae: str | Path | None = None,
    config: str | Path | Mapping[str, Any] | None = None,
    prediction: str | None = None,
    models: str | Path | None = None,
) -> Pipeline:
    """Load a model for drawing.

    model: a diffusers folder, a file that holds a whole checkpoint (`docs/guide/files.md`), or the name of
        one in a folder of models; None or 'starter' is the model inside the package.
    device: 'cpu', 'gpu' (Intel, through OpenVINO), 'cuda', 'mps' or 'auto'.
    precision: 'f32', 'bf16', 'f16' or 'auto', the fastest that the device computes in natively.
    engine: 'openvino', 'torch', 'numpy' or 'auto'. variant: which edition of the weights, such as 'fp16'.
    compiled: torch only: `torch.compile`, minutes of warm-up for faster pictures afterwards.
    vae: an autoencoder in place of the model's own: a file, a diffusers `vae` folder, or a whole model.
    config: what a single file does not tell: a diffusers folder whose small files are read, or a table (or
        a JSON file) of them, as `{"unet": {"attention_head_dim": 8}, "tokenizer": FOLDER}`.
    prediction: 'epsilon' or 'v_prediction', in place of what the model says of itself.
    models: a folder to look for names in, in place of $POCHADE_MODELS (`settings.model_roots`).

    Weights are mapped, not read; graphs are compiled when first used. Raises InvalidCheckpoint for a model
    that is missing, damaged or not supported, InvalidRequest for an unknown device, engine or precision.
    """
    choice = choose(device, precision, engine)
    path = model_path(model, models)
    checkpoint = read_checkpoint(path, variant=variant, vae=vae, config=config, prediction=prediction)
    networks = make_networks(checkpoint, make_engine(choice, compiled=compiled))
    _check_channels(networks, path)
    return Pipeline(
        checkpoint=checkpoint,
        choice=choice,
        networks=networks,
        tokenizers=tokenizers_of(checkpoint),
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


def model_path(model: str | Path | None, models: str | Path | None = None) -> Path:
    """Where a model lies, by what `load` takes. Raises InvalidCheckpoint if no file and no name fits."""
    if model is None or str(model) == STARTER:
        return starter_folder()
    return find(model, model_roots(models))


def starter_folder() -> Path:
    """Where the embedded model lies."""
    return Path(__file__).parent.parent.parent / STARTER


def _check_channels(networks: Networks, path: Path) -> None:
    """The UNet must take a latent, or with it a mask and the masked picture's latent, and nothing else."""
    given, latent = networks.unet_config.in_channels, networks.autoencoder_config.latent_channels
    if given not in (latent, 2 * latent + 1):
        raise InvalidCheckpoint(
            f"'{path}': its UNet takes {given} channels; {latent} (a latent) and {2 * latent + 1} (for"
            " inpainting) are supported. It may be a model for depth maps, upscaling or instructions"
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
            f"scheduler_config.json: a number of the schedule is none ({error})"
        ) from error
    zero_snr = bool(json.get("rescale_betas_zero_snr", False))
    return noise_schedule(json.get("beta_schedule", "scaled_linear"), *numbers, zero_snr)
