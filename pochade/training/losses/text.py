"""Pretraining of the text encoder: which caption belongs to which picture (Radford et al. 2021).

A text encoder with random weights gives the UNet nearly the same conditioning for every prompt, and the
little gradient that comes back through the UNet takes thousands of steps to separate words. Matching captions
to latents does so in a few minutes. The picture's network is discarded afterwards.
"""

import numpy as np
import torch
import torch.nn.functional as F

from pochade.configs.networks import TextEncoderConfig
from pochade.engines.shape_inference import infer_shapes
from pochade.engines.torch import TorchOps
from pochade.loading.parameter_shapes import text_encoder_shapes, with_config
from pochade.models.layers import conv, group_norm, linear
from pochade.models.text_encoder import text_encoder
from pochade.ops import Shape
from pochade.training.data.examples import Examples
from pochade.training.data.tokenizing import Tokenize
from pochade.training.loop import Loss
from pochade.training.parameters import Parameters, create
from pochade.training.precision import mixed_precision
from pochade.weights import View

SCALE = 20.0
"""Of the cosines, before the softmax: the inverse temperature."""


def initialize(config: TextEncoderConfig, latent: Shape, seed: int) -> Parameters:
    """Parameters `text_encoder.*` and, for the lesson only, `picture.*`. latent: (C, h, w)."""
    shapes = infer_shapes(with_config(_picture, config), {"latent": ((1, *latent), "f32")}).parameters
    return {
        **create(
            {f"text_encoder.{name}": shape for name, shape in text_encoder_shapes(config).items()}, seed
        ),
        **create({f"picture.{name}": shape for name, shape in shapes.items()}, seed + 1),
    }


def loss(
    config: TextEncoderConfig, examples: Examples, tokenize: Tokenize, *, batch: int, device: str = "cpu"
) -> Loss:
    """The symmetric cross-entropy of cosines between captions and pictures of a batch, all different."""
    ops = TorchOps()

    def step(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
        latents, captions = examples.batch(batch, rng)
        ids, end = tokenize(captions)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        latents = latents + 0.3 * torch.randn(latents.shape, generator=generator)
        view = View(parameters)
        with mixed_precision(device):
            _, pooled = text_encoder(
                ops,
                config,
                view / "text_encoder",
                torch.from_numpy(ids).to(device),
                torch.from_numpy(end).to(device),
            )
            seen = _picture(ops, config, view / "picture", latents.to(device))
        texts, pictures = F.normalize(pooled.float(), dim=-1), F.normalize(seen.float(), dim=-1)
        cosines = SCALE * texts @ pictures.T
        same = torch.arange(batch, device=cosines.device)
        error: torch.Tensor = (F.cross_entropy(cosines, same) + F.cross_entropy(cosines.T, same)) / 2
        return error

    return step


def _picture(ops: TorchOps, config: TextEncoderConfig, w: View, latent: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) -> (B, width): three convolutions, each halving the side, and a linear layer."""
    x = latent
    for level, channels in enumerate((64, 128, 256)):
        stride = 1 if level == 0 else 2
        x = conv(ops, w / f"convs.{level}", x, channels, stride=stride, padding=(1, 1, 1, 1))
        x = ops.silu(group_norm(ops, w / f"norms.{level}", x, 8, 1e-5))
    seen: torch.Tensor = linear(ops, w / "out", ops.reshape(x, (ops.shape(x)[0], -1)), config.width)
    return seen
