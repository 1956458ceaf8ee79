"""The networks of Stable Diffusion at their real size, with random weights, against their references.

    python -m tests.models.full_size prepare NAME FOLDER    the reference: its weights and outputs
    python -m tests.models.full_size compare FOLDER NAME ENGINE PRECISION    prints the error

Each runs in a process of its own, since the largest network takes ten gigabytes in 32 bits. The weights are
numbers of 16 bits, so that the file is half as large; the reference computes with the same in 32 bits.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from numpy.typing import NDArray
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pochade.checkpoints import safetensors
from pochade.checkpoints.folder import KEY_MAPS, read_component
from pochade.configs.read_json import autoencoder_config
from pochade.engines.openvino import OpenVinoEngine
from pochade.engines.torch import TorchEngine
from pochade.models.autoencoder import decode, encode
from tests.models.measure import (
    decode_reference,
    encode_reference,
    prompt_ids,
    text_json,
    text_output,
    text_reference,
    unet_output,
    unet_reference,
)
from tests.reference import DOWN, DOWN_TEXT, UP, UP_TEXT, evaluate, randomize, relative_error, unet_inputs

Outputs = dict[str, NDArray[np.float32]]

VOCABULARY, END = 49408, 49407


@dataclass(frozen=True, kw_only=True)
class Case:
    """A component. component: the name of its folder. settings: of the reference class."""

    component: str
    settings: Mapping[str, Any]
    side: int = 0  # latent pixels of a UNet, pixels of the autoencoder


SD: Mapping[str, Any] = {
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (DOWN_TEXT, DOWN_TEXT, DOWN_TEXT, DOWN),
    "up_block_types": (UP, UP_TEXT, UP_TEXT, UP_TEXT),
}
CASES: Mapping[str, Case] = {
    "CLIP ViT-L/14": Case(
        component="text_encoder",
        settings={"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
    ),
    "OpenCLIP ViT-H/14": Case(
        component="text_encoder",
        settings={
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_attention_heads": 16,
            "num_hidden_layers": 23,
            "hidden_act": "gelu",
        },
    ),
    "OpenCLIP ViT-bigG/14": Case(
        component="text_encoder_2",
        settings={
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_attention_heads": 20,
            "num_hidden_layers": 32,
            "hidden_act": "gelu",
            "projection_dim": 1280,
        },
    ),
    "SD 1.5 autoencoder": Case(
        component="vae",
        side=256,
        settings={
            "block_out_channels": (128, 256, 512, 512),
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "layers_per_block": 2,
        },
    ),
    "SD 1.5 UNet": Case(component="unet", side=64, settings={**SD, "cross_attention_dim": 768}),
    "SD 2.1 UNet": Case(
        component="unet",
        side=64,
        settings={
            **SD,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
        },
    ),
    "SDXL UNet": Case(
        component="unet",
        side=32,
        settings={
            "block_out_channels": (320, 640, 1280),
            "down_block_types": (DOWN, DOWN_TEXT, DOWN_TEXT),
            "up_block_types": (UP_TEXT, UP_TEXT, UP),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
    ),
}
ENGINES: Mapping[tuple[str, str], Callable[[], Any]] = {
    ("openvino", "f32"): lambda: OpenVinoEngine(threads=1),
    ("torch", "f32"): TorchEngine,
    ("openvino", "bf16"): lambda: OpenVinoEngine(precision="bf16", threads=1),
    ("torch", "bf16"): lambda: TorchEngine(precision="bf16"),
}


def prepare(case: Case, folder: Path) -> None:
    """Write the component's folder and the outputs of the reference."""
    model, json_of = _reference(case)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    given = _inputs(case, json_of)
    np.savez(folder / "expected.npz", **_run_reference(case, model, given))
    _write_halves(folder / "model.safetensors", model)
    (folder / "config.json").write_text(json.dumps(json_of))


def compare(folder: Path, name: str, engine: str, precision: str) -> float:
    """Return the largest relative error among the outputs of a component on an engine."""
    case = CASES[name]
    component = read_component(folder, case.component, KEY_MAPS[case.component])
    given = _inputs(case, component.config)
    outputs = _run_ours(ENGINES[engine, precision](), case, component.config, component.tensors, given)
    with np.load(folder / "expected.npz") as expected:
        assert outputs.keys() == set(expected)
        return max(relative_error(outputs[output], expected[output]) for output in outputs)


def in_another_process(*arguments: str) -> str:
    """Run this module in a subprocess; return its last line of output."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.models.full_size", *arguments]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout.strip().rpartition("\n")[2]


def _reference(case: Case) -> tuple[Any, dict[str, Any]]:
    """The model and its `config.json`."""
    if case.component.startswith("text_encoder"):
        config = CLIPTextConfig(vocab_size=VOCABULARY, eos_token_id=END, **case.settings)
        kind = CLIPTextModelWithProjection if "projection_dim" in case.settings else CLIPTextModel
        model = randomize(kind(config), gain=1.0)
        return model, json.loads(json.dumps(text_json(model), default=str))
    kind = AutoencoderKL if case.component == "vae" else UNet2DConditionModel
    with torch.device("meta"):  # diffusers' initialisation would take longer than everything else
        model = kind(**case.settings)
    model = randomize(model.to_empty(device="cpu"), gain=1.0 if case.component == "vae" else 0.6)
    return model, json.loads(model.to_json_string())


def _inputs(case: Case, config: Mapping[str, Any]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    if case.component == "unet":
        return unet_inputs(config, (1, case.side, case.side))
    if case.component == "vae":
        small = case.side // 8
        return {
            "picture": rng.uniform(-1, 1, (1, 3, case.side, case.side)).astype(np.float32),
            "latent": rng.standard_normal((1, 4, small, small), np.float32),
        }
    return {"ids": prompt_ids(VOCABULARY, END)}


def _run_reference(case: Case, model: Any, given: Mapping[str, Any]) -> Outputs:
    if case.component == "unet":
        return {"prediction": unet_reference(model, given)}
    if case.component == "vae":
        return {
            "moments": encode_reference(model, given["picture"]),
            "picture": decode_reference(model, given["latent"]),
        }
    context, pooled = text_reference(model, given["ids"], **_form(case))
    return {"context": context, "pooled": pooled}


def _run_ours(engine: Any, case: Case, config: Any, tensors: Any, given: Mapping[str, Any]) -> Outputs:
    if case.component == "unet":
        return {"prediction": unet_output(engine, config, tensors, given)}
    if case.component == "vae":
        settings = autoencoder_config(config)
        return {
            "moments": evaluate(engine, encode, settings, tensors, picture=given["picture"]),
            "picture": evaluate(engine, decode, settings, tensors, latent=given["latent"]),
        }
    context, pooled = text_output(engine, config, tensors, given["ids"], **_form(case))
    return {"context": context, "pooled": pooled}


def _form(case: Case) -> dict[str, Any]:
    """SDXL takes the layer before the last, without the final norm."""
    wide = case.component == "text_encoder_2"
    return {"skip": int(wide), "final_norm": not wide}


def _write_halves(path: Path, model: torch.nn.Module) -> None:
    tensors = {name: value.half().numpy() for name, value in model.state_dict().items()}
    safetensors.write(path, tensors)


def main(command: str, *arguments: str) -> None:
    torch.set_num_threads(1)
    if command == "prepare":
        name, folder = arguments
        prepare(CASES[name], Path(folder))
    else:
        folder, name, engine, precision = arguments
        print(compare(Path(folder), name, engine, precision))


if __name__ == "__main__":
    main(*sys.argv[1:])
