"""Loading a model: from a path to a pipeline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pochade.checkpoints.folder import read_folder
from pochade.diffusion.parametrization import find_parametrization
from pochade.diffusion.schedule import NoiseSchedule, noise_schedule
from pochade.errors import InvalidCheckpoint
from pochade.pipeline.choice import choose, make_engine
from pochade.pipeline.networks import make_networks
from pochade.pipeline.pipeline import Pipeline
from pochade.prompts.tokenizer_files import load_tokenizer

STARTER = "starter"


def load(
    model: str | Path | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
    variant: str | None = None,
    compiled: bool = False,
) -> Pipeline:
    """Load a model for drawing.

    model: a diffusers folder; None or 'starter' is the model inside the package.
    device: 'cpu', 'gpu' (Intel, through OpenVINO), 'cuda', 'mps' or 'auto'.
    precision: 'f32', 'bf16', 'f16' or 'auto', the fastest that the device computes in natively.
    engine: 'openvino', 'torch', 'numpy' or 'auto'. variant: which edition of the weights, such as 'fp16'.
    compiled: torch only: `torch.compile`, minutes of warm-up for faster pictures afterwards.

    Weights are mapped, not read; graphs are compiled when first used. Raises InvalidCheckpoint for a model
    that is missing, damaged or not supported, InvalidRequest for an unknown device, engine or precision.
    """
    choice = choose(device, precision, engine)
    path = starter_folder() if model is None or model == STARTER else Path(model)
    checkpoint = read_folder(path, variant)
    networks = make_networks(checkpoint, make_engine(choice, compiled=compiled))
    folders = [checkpoint.tokenizer, checkpoint.tokenizer_2]
    return Pipeline(
        checkpoint=checkpoint,
        choice=choice,
        networks=networks,
        tokenizers=[load_tokenizer(folder) for folder in folders if folder is not None],
        schedule=_schedule(checkpoint.scheduler),
        parametrization=find_parametrization(checkpoint.scheduler.get("prediction_type", "epsilon")),
    )


def starter_folder() -> Path:
    """Where the embedded model lies."""
    return Path(__file__).parent.parent / STARTER


def _schedule(json: Mapping[str, Any]) -> NoiseSchedule:
    """From a `scheduler/scheduler_config.json` as diffusers writes it."""
    if json.get("trained_betas") is not None:
        raise InvalidCheckpoint("scheduler_config.json: trained_betas is not supported; beta_schedule is")
    return noise_schedule(
        json.get("beta_schedule", "scaled_linear"),
        float(json.get("beta_start", 0.00085)),
        float(json.get("beta_end", 0.012)),
        int(json.get("num_train_timesteps", 1000)),
        bool(json.get("rescale_betas_zero_snr", False)),
    )
