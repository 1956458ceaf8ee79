"""The network that all contenders run: SD 1.5's UNet at full size, with random weights.

The time of an evaluation does not depend on the values of the weights, so nothing needs to be downloaded.
Created once, each part in a separate process:

    FOLDER/unet/     diffusers' config.json and f32 weights
    FOLDER/case.npz  the inputs, and diffusers' output for them in f32
    FOLDER/traced/   the same network as converted by OpenVINO from a torch trace
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pochade.atomic import hidden_neighbour

SEED = 1
TIMESTEP = 501


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The size of a network. options: arguments of diffusers' UNet2DConditionModel; its defaults are SD 1.5.

    latent: (B, C, H, W), batch 2 as in a step with guidance. context: (B, T, D).
    """

    name: str
    latent: tuple[int, int, int, int]
    context: tuple[int, int, int]
    options: Mapping[str, Any] = field(default_factory=dict)


FULL = Scale(
    name="unet-sd15", latent=(2, 4, 64, 64), context=(2, 77, 768), options={"cross_attention_dim": 768}
)
QUICK = Scale(
    name="unet-quick",
    latent=(2, 4, 16, 16),
    context=(2, 77, 48),
    options={"cross_attention_dim": 48, "block_out_channels": (32, 64, 64, 64), "attention_head_dim": 4},
)


def make_weights(scale: Scale, folder: Path) -> None:
    """Random weights as torch initialises them, but with non-trivial normalisations.

    With its initial ones and zeros, a compiler could remove the affine map of every normalisation.
    """
    import torch
    from diffusers import UNet2DConditionModel

    torch.manual_seed(SEED)
    network: Any = UNet2DConditionModel(sample_size=scale.latent[-1], **scale.options)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.GroupNorm | torch.nn.LayerNorm):
                module.weight.normal_(1.0, 0.1)
                module.bias.normal_(0.0, 0.1)
    part = hidden_neighbour(folder / "unet")
    network.save_pretrained(part, max_shard_size="20GB")
    part.rename(folder / "unet")


def make_case(scale: Scale, folder: Path) -> None:
    """Inputs from a unit normal distribution, and diffusers' output in f32."""
    import torch

    random = np.random.default_rng(SEED)
    case: dict[str, NDArray[Any]] = {
        "x": random.standard_normal(scale.latent, dtype=np.float32),
        "timestep": np.full(scale.latent[0], TIMESTEP, np.int64),
        "context": random.standard_normal(scale.context, dtype=np.float32),
    }
    network = load_diffusers(folder, "f32")
    with torch.inference_mode():
        answer = network(*(torch.from_numpy(array) for array in case.values()), return_dict=False)[0]
    part = hidden_neighbour(folder / "case.npz")
    with part.open("wb") as file:
        np.savez(file, **{"answer": answer.numpy(), **case})
    part.rename(folder / "case.npz")


def make_trace(scale: Scale, folder: Path) -> None:
    """Trace with torch, convert with static shapes as the package uses them, keep f32. Takes minutes."""
    import torch

    from pochade.engines.openvino_import import ov

    class Plain(torch.nn.Module):
        def __init__(self, network: Any) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Any, timestep: Any, context: Any) -> Any:
            return self.network(x, timestep, context, return_dict=False)[0]

    inputs, _ = read_case(folder)
    example = {name: torch.from_numpy(array) for name, array in inputs.items()}
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each shape that becomes a constant is warned of; all are meant to
        graph = ov.convert_model(
            Plain(load_diffusers(folder, "f32")),
            example_input=example,
            input=[(name, list(array.shape)) for name, array in inputs.items()],
        )
    part = hidden_neighbour(folder / "traced")
    part.mkdir()
    ov.save_model(graph, part / "unet.xml", compress_to_fp16=False)
    part.rename(folder / "traced")


def read_case(folder: Path) -> tuple[dict[str, NDArray[Any]], NDArray[np.float32]]:
    """The inputs x, timestep and context, and the expected output."""
    with np.load(folder / "case.npz") as case:
        return {name: case[name] for name in ("x", "timestep", "context")}, case["answer"]


def load_diffusers(folder: Path, precision: str) -> Any:
    """diffusers' network in 'f32' or 'bf16', channels last, which is its faster layout on processors."""
    import torch
    from diffusers import UNet2DConditionModel

    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
    network = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=kind, local_files_only=True)
    return network.eval().to(memory_format=torch.channels_last)
