"""Adapters with the names of real files, on models of SD 2.x and XL: the pictures that diffusers draw."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from pochade.adapters.ldm_names import unet_names
from pochade.checkpoints import safetensors
from pochade.pipeline import Lora
from tests.pipeline.measure import draw_ours, draw_theirs, least_psnr, starting_noise
from tests.tiny_models import Model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
pytest.importorskip("peft")

ALIKE, OTHER = 60, 45  # dB
UNET_LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")
TEXT_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
RANK, ALPHA = 3, 2.0

Name = Callable[[str, str, str], tuple[str, str]]
"""(component, layer, factor "up" or "down") -> its key, and that of its alpha, or "" where there is none."""


def flat(name: str) -> str:
    return name.replace(".", "_")


def kohya(family: str, component: str, layer: str, factor: str) -> tuple[str, str]:
    te = {"text_encoder": "lora_te1" if family == "SDXL" else "lora_te", "text_encoder_2": "lora_te2"}
    stem = f"lora_unet_{flat(layer)}" if component == "unet" else f"{te[component]}_text_model_{flat(layer)}"
    return f"{stem}.lora_{factor}.weight", f"{stem}.alpha"


def kohya_2022(family: str, component: str, layer: str, factor: str) -> tuple[str, str]:
    """As sd-scripts write adapters of XL: the UNet's layers by the numbers of the latent diffusion code."""
    if component != "unet":
        return kohya(family, component, layer, factor)
    stem = f"lora_unet_{flat(layer)}"
    return f"{stem}.lora_{factor}.weight", f"{stem}.alpha"


def diffusers(family: str, component: str, layer: str, factor: str) -> tuple[str, str]:
    inner = "" if component == "unet" else "text_model."
    return f"{component}.{inner}{layer}.lora_{'B' if factor == 'up' else 'A'}.weight", ""


def diffusers_2023(family: str, component: str, layer: str, factor: str) -> tuple[str, str]:
    inner, kind = ("", "lora") if component == "unet" else ("text_model.", "lora_linear_layer")
    return f"{component}.{inner}{layer}.{kind}.{factor}.weight", ""


NAMES: Mapping[str, Any] = {
    "kohya": kohya,
    "kohya, names of 2022": kohya_2022,
    "diffusers": diffusers,
    "diffusers of 2023": diffusers_2023,
}
CASES = [
    (family, name)
    for family in ("SD 2.1", "SDXL")
    for name in NAMES
    if (family, name) != ("SD 2.1", "kohya, names of 2022")  # which no trainer has written
]


def layers_of(pipeline: Any) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """(component, layer, shape) of all linear layers that trainers adapt."""
    for component in ("unet", "text_encoder", "text_encoder_2"):
        model = getattr(pipeline, component, None)
        ends = UNET_LAYERS if component == "unet" else TEXT_LAYERS
        for name, module in [] if model is None else model.named_modules():
            if isinstance(module, torch.nn.Linear) and name.endswith(tuple(f".{end}" for end in ends)):
                yield component, name.removeprefix("text_model."), tuple(module.weight.shape)


def write(path: Path, pipeline: Any, family: str, name: str) -> Path:
    rng, tensors = np.random.default_rng(0), dict[str, Any]()
    old = unet_names({name for name, _ in pipeline.unet.named_modules()} - {""})
    for component, layer, (outputs, inputs) in layers_of(pipeline):
        layer = old[layer] if component == "unet" and name == "kohya, names of 2022" else layer
        size = 0.5 / (RANK * inputs) ** 0.5
        for factor, shape in (("up", (outputs, RANK)), ("down", (RANK, inputs))):
            key, alpha = NAMES[name](family, component, layer, factor)
            scale = size if factor == "up" else 1.0
            tensors[key] = (scale * rng.standard_normal(shape)).astype(np.float32)
            if alpha:
                tensors[alpha] = np.float32(ALPHA)
    safetensors.write(path, tensors)
    return path


@pytest.mark.parametrize(("family", "name"), CASES)
def test_pictures(model: Callable[[str], Model], tmp_path: Path, family: str, name: str) -> None:
    made, noise = model(family), starting_noise([5])
    path = write(tmp_path / "ink.safetensors", made.theirs, family, name)
    theirs = DiffusionPipeline.from_pretrained(made.folder, safety_checker=None)
    theirs.set_progress_bar_config(disable=True)
    theirs.load_lora_weights(str(tmp_path), weight_name=path.name)
    theirs.fuse_lora(lora_scale=0.7)
    texts = {"prompt": ["a red fox"], "negative_prompt": ["the 4k cat"]}
    expected = draw_theirs(theirs, "Euler", noise, [5], steps=6, **texts)

    def ours(weight: float) -> Any:
        pipeline = made.load().with_adapters([Lora(path, weight)])
        return draw_ours(
            pipeline, "Euler", noise, [5], "a red fox", negative_prompt="the 4k cat", steps=6
        )  # fmt: skip

    assert least_psnr(ours(0.7), expected) > ALIKE
    assert least_psnr(ours(0.0), expected) < OTHER
