"""Initial parameters of a model."""

import math
from collections.abc import Mapping

import torch

from pochade.ops import Shape

Parameters = dict[str, torch.Tensor]


def create(shapes: Mapping[str, Shape], seed: int) -> Parameters:
    """Initial values of all parameters of a model (see `pochade.engines.shape_inference`), f32 on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return {name: initial(name, shape, generator) for name, shape in shapes.items()}


# Residual branches begin as zero, so that a deep model begins as the identity (Goyal et al. 2017, section
# 5.1; for transformers Zhang et al. 2019) and the UNet predicts nothing at first.
ZERO_AT_FIRST = (".conv2.weight", ".to_out.0.weight", ".ff.net.2.weight", "proj_out.weight")


def initial(name: str, shape: Shape, generator: torch.Generator) -> torch.Tensor:
    """A parameter's first value: norms are the identity, biases zero, embeddings N(0, 0.02), matrices and
    kernels uniform with variance 1 / (3 fan_in) (LeCun 1998, scaled as torch's layers do)."""
    if name.endswith(ZERO_AT_FIRST) or name.endswith("bias"):
        return torch.zeros(shape)
    if len(shape) == 1:
        return torch.ones(shape)
    if "embedding.weight" in name:
        return torch.randn(shape, generator=generator) * 0.02
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)
