"""The network that all contenders run: Stable Diffusion 1.5's UNet in its true shapes, with random weights.

The time of an evaluation does not depend on what the weights are, so nothing has to be downloaded. Made
once, each part in a process of its own:

    FOLDER/unet/     diffusers' config.json and f32 weights
    FOLDER/case.npz  the inputs, and diffusers' answer to them in f32
    FOLDER/traced/   the same network as OpenVINO converts it from a torch trace
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
    """How large a network. options: arguments of diffusers' UNet2DConditionModel; its defaults are SD 1.5.

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
    """Random weights as torch initialises them, except that no normalisation is the identity.

    With its initial ones and zeros, a compiler could leave the affine map of every normalisation out.
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
    """Inputs from a unit normal, and what diffusers answers in f32."""
    import torch

    from contenders.peers import load_diffusers

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
        np.savez(file, answer=answer.numpy(), **case)
    part.rename(folder / "case.npz")


def make_trace(scale: Scale, folder: Path) -> None:
    """Trace with torch, convert with static shapes as the package uses them, keep f32. Takes minutes."""
    import torch

    from contenders.peers import load_diffusers
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
    """The inputs x, timestep and context, and the answer that they should get."""
    with np.load(folder / "case.npz") as case:
        return {name: case[name] for name in ("x", "timestep", "context")}, case["answer"]
