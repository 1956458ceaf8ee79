"""Textual inversion: only the vectors of a new word are trained (Gal et al. 2022, section 3.2)."""

from dataclasses import replace

import numpy as np
import torch

from pochade.adapters.embeddings import TABLE
from pochade.configs.networks import TextEncoderConfig, UNetConfig
from pochade.diffusion.schedule import NoiseSchedule
from pochade.engines.torch import TorchOps
from pochade.models.text_encoder import text_encoder
from pochade.models.unet import unet
from pochade.training.data.examples import Examples
from pochade.training.data.tokenizing import Tokenize
from pochade.training.loop import Loss
from pochade.training.losses.diffusion import Prediction, attention_for, with_noise
from pochade.training.parameters import Parameters
from pochade.training.precision import mixed_precision
from pochade.weights import View

VECTORS = "word.embedding.weight"
"""The only parameter: (n, width), rows that follow those of the text encoder's table."""


def loss(
    text: TextEncoderConfig,
    picture: UNetConfig,
    frozen: Parameters,
    schedule: NoiseSchedule,
    examples: Examples,
    tokenize: Tokenize,
    *,
    batch: int,
    prediction: Prediction,
    device: str = "cpu",
) -> Loss:
    """The error of the UNet's prediction (as in `losses.diffusion`), by the vectors of the new word.

    frozen: `text_encoder.*` and `unet.*`. tokenize: gives the word the numbers behind the vocabulary's last.
    """
    ops, table = TorchOps(), f"text_encoder.{TABLE}"
    kind = device.split(":")[0]

    def step(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
        latent, texts = examples.batch(batch, rng)
        ids, end = tokenize(texts)
        noisy = with_noise(latent, schedule, picture, rng, prediction=prediction, device=device)
        vectors = parameters[VECTORS]
        view = View({**frozen, table: torch.cat([frozen[table], vectors])})
        longer = replace(text, vocabulary=text.vocabulary + len(vectors))
        with mixed_precision(device), attention_for(kind):
            context, _ = text_encoder(
                ops,
                longer,
                view / "text_encoder",
                torch.from_numpy(ids).to(device),
                torch.from_numpy(end).to(device),
            )
            guess = unet(ops, picture, view / "unet", noisy.latent, noisy.time, context)
        return noisy.error(guess)

    return step
