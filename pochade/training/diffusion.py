"""Training the text encoder and the UNet together on latents (Rombach et al. 2022, section 3.3)."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel

from pochade.diffusion.schedule import NoiseSchedule
from pochade.engines.torch import TorchOps
from pochade.models.config import TextEncoderConfig, UNetConfig
from pochade.models.embedding import embed_timestep
from pochade.models.text_encoder import text_encoder
from pochade.models.unet import unet
from pochade.pipeline.shapes import text_encoder_shapes, unet_shapes
from pochade.training.loop import Loss
from pochade.training.parameters import Parameters, create
from pochade.weights import View

UNCAPTIONED = 0.1
"""Share of pictures whose caption is left empty, so that guidance has something to lead away from
(Ho and Salimans 2022, algorithm 1)."""

FULL_WEIGHT_SNR = 5.0
"""Up to this ratio of signal to noise the error of v counts fully; cleaner latents count less and less, as in
Hang et al. 2023. Their weights fall on the noisy side too, where v is nearly the picture itself and only the
text tells which: there a small model learns to read (at 1,300 steps with their weights ours had not yet).
"""

Captioner = Callable[[int, np.random.Generator], str]
Tokenize = Callable[[list[str]], tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Texts to ids (B, 77) and the positions of their end tokens (B,)."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """latents: (N, V, C, h, w) scaled, V views of each picture (mirrored, ...). caption: of picture n."""

    latents: torch.Tensor
    caption: Captioner


def fresh(text: TextEncoderConfig, picture: UNetConfig, seed: int) -> Parameters:
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


def loss(
    text: TextEncoderConfig,
    picture: UNetConfig,
    schedule: NoiseSchedule,
    examples: Examples,
    tokenize: Tokenize,
    *,
    batch: int,
    repeats: int = 4,
    device: str = "cpu",
) -> Loss:
    """The weighted squared error of v (Salimans and Ho 2022).

    Each caption is encoded once for `repeats` noise levels of its picture: in a small model the text of 77
    tokens costs as much as the picture, and levels spread over the whole range are a better sample of it.
    """
    ops = TorchOps()
    kind = device.split(":")[0]
    alphas = torch.from_numpy(schedule.alphas_cumprod.astype(np.float32))

    def step(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
        count = batch // repeats
        chosen = rng.integers(len(examples.latents), size=count)
        views = rng.integers(examples.latents.shape[1], size=count)
        texts = ["" if rng.random() < UNCAPTIONED else examples.caption(int(i), rng) for i in chosen]
        ids, end = tokenize(texts)
        # Level k of picture i is drawn from stratum (k * count + i): every batch covers all levels evenly.
        strata = np.arange(batch).reshape(repeats, count).T.ravel()
        timestep = ((strata + rng.random(batch)) / batch * schedule.steps).astype(np.int64)

        latent = examples.latents[chosen, views].repeat_interleave(repeats, dim=0).to(device)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        noise = torch.randn(latent.shape, generator=generator).to(device)
        share = alphas[timestep].view(-1, 1, 1, 1).to(device)
        signal, spread = share.sqrt(), (1 - share).sqrt()
        noisy, target = signal * latent + spread * noise, signal * noise - spread * latent
        time = torch.from_numpy(embed_timestep(picture, timestep)).to(device)

        view = View(parameters)
        with torch.autocast(device_type=kind, dtype=torch.bfloat16), attention_for(kind):
            context, _ = text_encoder(
                ops,
                text,
                view / "text_encoder",
                torch.from_numpy(ids).to(device),
                torch.from_numpy(end).to(device),
            )
            context = context.repeat_interleave(repeats, dim=0)
            guess = unet(ops, picture, view / "unet", noisy, time, context).float()
        snr = share / (1 - share)
        weight = (FULL_WEIGHT_SNR + 1) / (snr + 1).clamp(min=FULL_WEIGHT_SNR + 1)
        mean: torch.Tensor = (weight * (guess - target).square()).mean() / weight.mean()
        return mean

    return step
