"""Fresh parameters for a model, created where its function first asks for them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from pochade.engines.torch import TorchOps
from pochade.ops import Shape
from pochade.weights import View

Parameters = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Creating(View):
    """A view that makes what is missing: the model function itself says which shapes it needs."""

    tensors: Parameters = field(default_factory=dict)
    generator: torch.Generator = field(default_factory=torch.Generator)

    def __call__(self, name: str, shape: Shape, rows: slice | None = None) -> torch.Tensor:
        full = self.prefix + name
        if full not in self.tensors:
            self.tensors[full] = initial(full, shape, self.generator)
        tensor: torch.Tensor = super().__call__(name, shape, rows)
        return tensor


def create(model: Callable[..., Any], seed: int, **inputs: torch.Tensor) -> Parameters:
    """All parameters of `model(ops, w, **inputs)`, in the order in which it uses them, f32 on the CPU."""
    view = Creating(generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        model(TorchOps(), view, **inputs)
    return view.tensors


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
