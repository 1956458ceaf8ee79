"""Training a ControlNet beside a UNet that stays as it is (Zhang et al. 2023, section 3.3)."""

from typing import Protocol

import numpy as np
import torch

from pochade.configs.networks import ControlNetConfig, TextEncoderConfig, UNetConfig
from pochade.diffusion.schedule import NoiseSchedule
from pochade.engines.torch import TorchOps
from pochade.loading.parameter_shapes import controlnet_shapes
from pochade.models.controlnet import controlnet, embed_hint
from pochade.models.unet import unet
from pochade.training.data.tokenizing import Tokenize
from pochade.training.loop import Loss
from pochade.training.losses.diffusion import Prediction, attention_for, read, with_noise
from pochade.training.parameters import Parameters, create
from pochade.training.precision import mixed_precision
from pochade.weights import View

UNCAPTIONED = 0.5
"""Share of pictures whose caption is left empty, so that the hint alone must say what is there."""

PREFIX = "controlnet."

ZERO = ("controlnet_down_blocks.", "controlnet_mid_block.", "controlnet_cond_embedding.conv_out.")
"""The "zero convolutions": with them it changes nothing at first."""


class ControlNetExamples(Protocol):
    """What a ControlNet learns from."""

    def batch(self, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        """Scaled latents (count, C, h, w), hints (count, 3, H, W) in 0..1, a true sentence about each."""


def initialize(config: ControlNetConfig, frozen: Parameters, seed: int) -> Parameters:
    """Parameters `controlnet.*`: copies of the UNet's `unet.*` where it has such a tensor, else new ones."""
    created = create({f"{PREFIX}{name}": shape for name, shape in controlnet_shapes(config).items()}, seed)
    parameters = {}
    for name, tensor in created.items():
        own = name.removeprefix(PREFIX)
        copied = frozen.get(f"unet.{own}")
        if copied is not None:
            parameters[name] = copied.detach().clone()
        elif own.startswith(ZERO):
            parameters[name] = torch.zeros_like(tensor)
        else:
            parameters[name] = tensor
    return parameters


def loss(
    config: ControlNetConfig,
    text: TextEncoderConfig,
    picture: UNetConfig,
    frozen: Parameters,
    schedule: NoiseSchedule,
    examples: ControlNetExamples,
    tokenize: Tokenize,
    *,
    batch: int,
    prediction: Prediction,
    device: str = "cpu",
) -> Loss:
    """The error of the UNet's prediction with what the ControlNet adds (as in `losses.diffusion`).

    frozen: `text_encoder.*` and `unet.*`, which do not learn.
    """
    ops, fixed = TorchOps(), View(frozen)
    kind = device.split(":")[0]

    def step(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
        latent, hints, texts = examples.batch(batch, rng)
        ids, end = tokenize(["" if rng.random() < UNCAPTIONED else each for each in texts])
        noisy = with_noise(latent, schedule, picture, rng, prediction=prediction, device=device)
        own = View(parameters) / PREFIX.rstrip(".")
        with mixed_precision(device), attention_for(kind):
            with torch.no_grad():
                context = read(ops, text, fixed / "text_encoder", ids, end, device)
            hint = embed_hint(ops, config, own, hints.to(device))
            residuals = controlnet(ops, config, own, noisy.latent, noisy.time, context, hint)
            guess = unet(ops, picture, fixed / "unet", noisy.latent, noisy.time, context, residuals=residuals)
        return noisy.error(guess)

    return step
