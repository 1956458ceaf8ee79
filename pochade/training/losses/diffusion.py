"""Training the text encoder and the UNet together on latents (Rombach et al. 2022, section 3.3)."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel

from pochade.configs.networks import TextEncoderConfig, UNetConfig
from pochade.diffusion.schedule import NoiseSchedule
from pochade.engines.torch import TorchOps
from pochade.loading.parameter_shapes import text_encoder_shapes, unet_shapes
from pochade.models.embedding import embed_timestep
from pochade.models.text_encoder import text_encoder
from pochade.models.unet import unet
from pochade.training.data.examples import Examples
from pochade.training.data.tokenizing import Tokenize
from pochade.training.loop import Loss
from pochade.training.parameters import Parameters, create
from pochade.training.precision import mixed_precision
from pochade.weights import View

UNCAPTIONED = 0.1
"""Share of pictures whose caption is left empty, so that guidance has something to lead away from
(Ho and Salimans 2022, algorithm 1)."""

FULL_WEIGHT_SNR = 5.0
"""Up to this ratio of signal to noise the error of v counts fully; cleaner latents count less and less, as in
Hang et al. 2023. Their weights fall on the noisy side too, where v is nearly the picture itself and only the
text tells which: there a small model learns to read (at 1,300 steps with their weights ours had not yet).
"""

Prediction = Literal["v_prediction", "epsilon"]
"""What the model predicts, by diffusers' names."""


def level_weight(snr: torch.Tensor, prediction: Prediction) -> torch.Tensor:
    """Loss weight at a signal-to-noise ratio."""
    if prediction == "epsilon":  # Hang et al. 2023, equation 8
        return snr.clamp(max=FULL_WEIGHT_SNR) / snr
    return (FULL_WEIGHT_SNR + 1) / (snr + 1).clamp(min=FULL_WEIGHT_SNR + 1)


def initialize(text: TextEncoderConfig, picture: UNetConfig, seed: int) -> Parameters:
    """Parameters `text_encoder.*` and `unet.*`."""

    return {
        **create({f"text_encoder.{name}": shape for name, shape in text_encoder_shapes(text).items()}, seed),
        **create({f"unet.{name}": shape for name, shape in unet_shapes(picture).items()}, seed + 1),
    }


def attention_for(kind: str) -> AbstractContextManager[None]:
    """On a CPU the fused attention's backward pass takes twice as long as plain products for a few hundred
    tokens: with it 0.63 s a step of the starter, without 0.52 s."""
    backends = (
        [SDPBackend.MATH] if kind == "cpu" else [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    )
    context: AbstractContextManager[None] = sdpa_kernel([*backends, SDPBackend.MATH])
    return context


@dataclass(frozen=True)
class Noisy:
    """Inputs and target of the UNet in training: noisy latents (B, C, h, w), their embedded timesteps, and
    the target. weight: (B, 1, 1, 1), of each in the loss."""

    latent: torch.Tensor
    time: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor

    def error(self, guess: torch.Tensor) -> torch.Tensor:
        """The weighted squared error, a scalar."""
        mean: torch.Tensor = (self.weight * (guess.float() - self.target).square()).mean() / (
            self.weight.mean()
        )
        return mean


def with_noise(
    latent: torch.Tensor,
    schedule: NoiseSchedule,
    picture: UNetConfig,
    rng: np.random.Generator,
    *,
    repeats: int = 1,
    prediction: Prediction,
    device: str,
) -> Noisy:
    """Each latent (N, C, h, w) at `repeats` noise levels: N * repeats questions.

    Level k of picture i is drawn from stratum (k * N + i): every batch covers all levels evenly.
    """
    count = len(latent)
    batch = count * repeats
    strata = np.arange(batch).reshape(repeats, count).T.ravel()
    timestep = ((strata + rng.random(batch)) / batch * schedule.steps).astype(np.int64)

    latent = latent.repeat_interleave(repeats, dim=0).to(device)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    noise = torch.randn(latent.shape, generator=generator).to(device)
    alphas = torch.from_numpy(schedule.alphas_cumprod[timestep].astype(np.float32))
    share = alphas.view(-1, 1, 1, 1).to(device)
    signal, spread = share.sqrt(), (1 - share).sqrt()
    return Noisy(
        latent=signal * latent + spread * noise,
        time=torch.from_numpy(embed_timestep(picture, timestep)).to(device),
        target=signal * noise - spread * latent if prediction == "v_prediction" else noise,
        weight=level_weight(share / (1 - share), prediction),
    )


def read(
    ops: TorchOps,
    text: TextEncoderConfig,
    w: View,
    ids: NDArray[np.int64],
    end: NDArray[np.int64],
    device: str,
) -> torch.Tensor:
    """Encode texts: ids (B, T) and positions of their end tokens (B,) -> (B, T, E)."""
    context: torch.Tensor = text_encoder(
        ops, text, w, torch.from_numpy(ids).to(device), torch.from_numpy(end).to(device)
    )[0]
    return context


def loss(
    text: TextEncoderConfig,
    picture: UNetConfig,
    schedule: NoiseSchedule,
    examples: Examples,
    tokenize: Tokenize,
    *,
    batch: int,
    repeats: int = 2,
    prediction: Prediction = "v_prediction",
    device: str = "cpu",
) -> Loss:
    """The weighted squared error of v (Salimans and Ho 2022) or of the noise (Ho et al. 2020).

    Each caption is encoded once for `repeats` noise levels of its picture: in a small model a text costs
    nearly as much as a picture, and levels spread over the whole range are a better sample of it.
    """
    ops = TorchOps()
    kind = device.split(":")[0]

    def step(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
        latent, texts = examples.batch(batch // repeats, rng)
        ids, end = tokenize(["" if rng.random() < UNCAPTIONED else each for each in texts])
        noisy = with_noise(
            latent, schedule, picture, rng, repeats=repeats, prediction=prediction, device=device
        )
        view = View(parameters)
        with mixed_precision(device), attention_for(kind):
            context = read(ops, text, view / "text_encoder", ids, end, device)
            context = context.repeat_interleave(repeats, dim=0)
            guess = unet(ops, picture, view / "unet", noisy.latent, noisy.time, context)
        return noisy.error(guess)

    return step
