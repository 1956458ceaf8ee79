"""A small diffusers folder, made of real components with random weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pochade.checkpoints import safetensors


def component(folder: Path, names: list[str], weights: str = "diffusion_pytorch_model.safetensors") -> None:
    """Write config.json and a weight file with a small tensor for each name."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"component": folder.name}))
    tensors: dict[str, Any] = {
        name: np.full((2, 2), number, np.float32) for number, name in enumerate(names, 1)
    }
    safetensors.write(folder / weights, tensors)


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A folder of SD 1.x with the tensor names of an old version of the libraries."""
    folder = tmp_path / "tiny-model"
    component(folder / "unet", ["conv_in.weight", "conv_in.bias"])
    component(folder / "vae", ["encoder.mid_block.attentions.0.query.weight", "quant_conv.weight"])
    component(
        folder / "text_encoder",
        ["text_model.final_layer_norm.weight", "text_model.embeddings.position_ids"],
        "model.safetensors",
    )
    (folder / "tokenizer").mkdir()
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text('{"num_train_timesteps": 1000}')
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "safety_checker": [None, None],
        "text_encoder_2": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
