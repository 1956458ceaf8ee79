"""Exports a finished run as a diffusers folder."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pochade.checkpoints.write import write_component, write_json
from pochade.configs.networks import AutoencoderConfig, TextEncoderConfig, UNetConfig
from pochade.configs.write_json import describe_autoencoder, describe_text_encoder, describe_unet
from pochade.training.parameters import Parameters

# "DPM++ 2M" on "Karras", the pipeline's defaults, so that diffusers' own default is the same picture.
SCHEDULER: Mapping[str, Any] = {
    "_class_name": "DPMSolverMultistepScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.02,  # see starter.NOISE
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
    "use_karras_sigmas": True,
    "final_sigmas_type": "zero",
    "timestep_spacing": "linspace",
    "steps_offset": 1,
}

MODEL_INDEX: Mapping[str, Any] = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
}


def export(
    folder: Path,
    *,
    text: tuple[TextEncoderConfig, Parameters],
    unet: tuple[UNetConfig, Parameters],
    autoencoder: tuple[AutoencoderConfig, Parameters],
    tokenizer: Path,
) -> None:
    """Write the folder, weights in f16. Files of the same names are replaced, others stay."""
    folder.mkdir(parents=True, exist_ok=True)
    side = unet[0].sample_size * autoencoder[0].factor
    write_component(
        folder / "text_encoder", describe_text_encoder(text[0]), halves(text[1]), "model.safetensors"
    )
    write_component(folder / "unet", describe_unet(unet[0]), halves(unet[1]))
    write_component(folder / "vae", describe_autoencoder(autoencoder[0], side), halves(autoencoder[1]))
    shutil.copytree(tokenizer, folder / "tokenizer", dirs_exist_ok=True)
    (folder / "scheduler").mkdir(exist_ok=True)
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    write_json(folder / "model_index.json", MODEL_INDEX)


def part(parameters: Parameters, prefix: str) -> Parameters:
    """The parameters below a prefix, without it."""
    return {
        name.removeprefix(prefix): tensor for name, tensor in parameters.items() if name.startswith(prefix)
    }


def halves(parameters: Parameters) -> dict[str, np.ndarray[Any, np.dtype[np.float16]]]:
    """As arrays in half precision."""
    return {
        name: np.ascontiguousarray(tensor.detach().cpu().to(torch.float16).numpy())
        for name, tensor in parameters.items()
    }
