"""ControlNets for the tests."""

import json
from pathlib import Path

import numpy as np

from pochade.checkpoints import safetensors
from pochade.configs.read_json import controlnet_config
from pochade.loading.parameter_shapes import controlnet_shapes
from pochade.settings import starter_folder


def write_control(folder: Path) -> Path:
    """Write a random ControlNet for the starter as a diffusers folder."""
    unet, vae = (
        json.loads((starter_folder() / part / "config.json").read_text()) for part in ("unet", "vae")
    )
    widths = [8 * (i + 1) for i in range(len(vae["block_out_channels"]))]
    config = {**unet, "_class_name": "ControlNetModel", "conditioning_embedding_out_channels": widths}
    rng = np.random.default_rng(0)
    tensors = {
        name: (rng.standard_normal(shape) / np.prod(shape[1:]) ** 0.5).astype(np.float32)
        for name, shape in controlnet_shapes(controlnet_config(config)).items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.write(folder / "diffusion_pytorch_model.safetensors", tensors)
    return folder
