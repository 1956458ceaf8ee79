"""Single files at their real size: detected configurations equal those of the published models.

The files are sparse: a header with all names and shapes, and no data, so that they take no disk space.
"""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pochade.checkpoints.read import format_of, read_checkpoint
from pochade.checkpoints.single_file_names import single_file_tensors
from pochade.configs.read_json import autoencoder_config, text_encoder_config, unet_config
from pochade.loading.networks import make_networks
from tests.models.full_size import CASES
from tests.single_files import ldm_state

pytestmark = pytest.mark.slow

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "SD 1.x": ("SD 1.5 UNet", "CLIP ViT-L/14"),
    "SD 2.x": ("SD 2.1 UNet", "OpenCLIP ViT-H/14"),
    "SDXL": ("SDXL UNet", "CLIP ViT-L/14", "OpenCLIP ViT-bigG/14"),
}
SIDES = {"SD 1.x": 64, "SD 2.x": 96, "SDXL": 128}


class Parts:
    """What `ldm_state` asks of a pipeline, without any numbers."""

    def __init__(self, family: str) -> None:
        unet, *texts = (CASES[name].settings for name in FAMILIES[family])
        with torch.device("meta"):
            scale = 0.13025 if family == "SDXL" else 0.18215
            self.vae = AutoencoderKL(**CASES["SD 1.5 autoencoder"].settings, scaling_factor=scale)
            self.unet = UNet2DConditionModel(**{**unet, "sample_size": SIDES[family]})
            encoders = [self._encoder(settings) for settings in texts]
        self.text_encoder = encoders[0]
        if len(encoders) > 1:
            self.text_encoder_2 = encoders[1]

    def _encoder(self, settings: Mapping[str, Any]) -> Any:
        kind = CLIPTextModelWithProjection if "projection_dim" in settings else CLIPTextModel
        return kind(CLIPTextConfig(**{"vocab_size": 49408, "eos_token_id": 49407, **settings}))


def write_sparse(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    header, end = {}, 0
    for name, tensor in state.items():
        begin, end = end, end + 2 * math.prod(tensor.shape)
        header[name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + end)


@pytest.mark.parametrize("family", FAMILIES)
def test_full_size(family, tmp_path):
    parts = Parts(family)
    path = tmp_path / "model.safetensors"
    write_sparse(path, ldm_state(parts))
    read_checkpoint(path)  # once, so that the disk and what else it serves are out of the measure
    began = time.process_time()
    checkpoint = read_checkpoint(path)
    make_networks(checkpoint, engine=None)
    took = time.process_time() - began
    print(f"{family}: {path.stat().st_size / 1e9:.1f} GB read in {took:.2f} s")
    assert took < 20  # of the processor: reading the weights themselves would take that, and more
    assert unet_config(checkpoint.unet.config) == unet_config(dict(parts.unet.config))
    assert autoencoder_config(checkpoint.vae.config) == autoencoder_config(dict(parts.vae.config))
    texts = [(checkpoint.text_encoder, parts.text_encoder)]
    if checkpoint.text_encoder_2 is not None:
        texts.append((checkpoint.text_encoder_2, parts.text_encoder_2))
    for ours, theirs in texts:
        json_of = {**theirs.config.to_dict(), "architectures": [type(theirs).__name__]}
        assert text_encoder_config(ours.config) == text_encoder_config(json_of)
    names = {name for name in ldm_state(parts) if name not in ("betas", "alphas_cumprod")}
    back = single_file_tensors(checkpoint, format_of(checkpoint))
    dropped = ("logit_scale", "position_ids", "cond_stage_model.model.text_projection")
    assert {name for name in names if not name.endswith(dropped)} == set(back) - {"v_pred"}
