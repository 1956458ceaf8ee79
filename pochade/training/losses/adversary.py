"""An adversary for the decoder: a small network that learns to tell pictures from reconstructions.

Errors of pixels forgive a decoder that blurs what it is unsure of; the adversary sees the blur. As in Esser
et al. 2021 (section 3.1, equations 5 to 7): a discriminator of patches (Isola et al. 2017, section 3.2), the
hinge loss (Lim and Ye 2017), and a weight that balances the adversary against the reconstruction.

Both sides learn from one scalar. In the term that teaches the decoder the adversary's parameters are
detached, in the term that teaches the adversary the reconstruction is. So each gradient is the one of two
alternating optimizers, and the loop trains both as the parameters of one run.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from pochade.engines.shape_inference import infer_shapes
from pochade.engines.torch import TorchOps
from pochade.errors import InvalidRequest
from pochade.loading.parameter_shapes import with_config
from pochade.models.layers import conv, group_norm
from pochade.ops import Ops, Tensor
from pochade.training.loop import ByStep, Loss
from pochade.training.parameters import Parameters, create
from pochade.training.precision import mixed_precision
from pochade.weights import View

PREFIX = "adversary."
"""Of the names of its parameters; `Plan.clip_apart` should hold it."""

LARGEST_WEIGHT = 1e4
"""Where the adversary's gradient nearly vanishes, its weight stays below this (as in Esser et al.)."""


@dataclass(frozen=True, kw_only=True)
class Adversary:
    """Size and weight of the adversary.

    widths: channels of its layers, each of which halves the picture. One verdict covers a patch of 8, 18, 38,
    78 pixels for one to four layers. weight: of the adversary against the reconstruction, after both are
    balanced. start_after: steps of reconstruction alone, before both sides begin.
    """

    widths: tuple[int, ...] = (32, 64, 128)
    groups: int = 8
    weight: float = 0.5
    start_after: int = 0


@dataclass(frozen=True)
class Attempt:
    """A batch of pictures, what the decoder made of them, and its error apart from the adversary.

    picture, result: (B, 3, H, W) in -1..1. error: a scalar.
    """

    picture: torch.Tensor
    result: torch.Tensor
    error: torch.Tensor


Reconstruct = Callable[[Parameters, np.random.Generator], Attempt]


def initialize(adversary: Adversary, seed: int) -> Parameters:
    """Parameters `adversary.*`, to be trained beside the decoder's in one dictionary."""
    side = 4 * 2 ** len(adversary.widths)
    shapes = infer_shapes(
        with_config(_verdicts, adversary), {"picture": ((1, 3, side, side), "f32")}
    ).parameters
    return create({PREFIX + name: shape for name, shape in shapes.items()}, seed)


def without(parameters: Parameters) -> Parameters:
    """The parameters without the adversary's, for export."""
    return {name: tensor for name, tensor in parameters.items() if not name.startswith(PREFIX)}


def loss(adversary: Adversary, reconstruct: Reconstruct, *, last: str = "decoder.conv_out.weight") -> ByStep:
    """The reconstruction's error, and from step `start_after` on the terms of both sides.

    last: the parameter at which the strengths are compared; the decoder's last layer.
    """

    def alone(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
        return reconstruct(parameters, rng).error

    def against(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
        attempt = reconstruct(parameters, rng)
        generator = generator_term(adversary, parameters, attempt.result)
        weight = adversary.weight * balance(attempt.error, generator, _named(parameters, last))
        return (
            attempt.error
            + weight * generator
            + discriminator_term(adversary, parameters, attempt.picture, attempt.result)
        )

    def at(step: int) -> Loss:
        return alone if step < adversary.start_after else against

    return ByStep(at)


def generator_term(adversary: Adversary, parameters: Parameters, result: torch.Tensor) -> torch.Tensor:
    """How far the adversary takes reconstructions for such: falls as the decoder deceives it. Reaches
    what made `result`, not the adversary."""
    frozen = {name: tensor.detach() for name, tensor in parameters.items() if name.startswith(PREFIX)}
    return -verdicts(adversary, frozen, result).mean()


def discriminator_term(
    adversary: Adversary, parameters: Parameters, picture: torch.Tensor, result: torch.Tensor
) -> torch.Tensor:
    """The hinge loss: pictures should be judged 1 or more, reconstructions -1 or less. Reaches the
    adversary, not what made `result`."""
    real = verdicts(adversary, parameters, picture.detach())
    false = verdicts(adversary, parameters, result.detach())
    return (F.relu(1 - real).mean() + F.relu(1 + false).mean()) / 2


def balance(error: torch.Tensor, generator: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """The weight that makes the generator term's gradient at `last` as long as the error's (Esser et al.
    2021, equation 7). It is a constant to the gradients that follow."""
    (of_error,) = torch.autograd.grad(error, last, retain_graph=True)
    (of_generator,) = torch.autograd.grad(generator, last, retain_graph=True)
    weight: torch.Tensor = of_error.norm() / (of_generator.norm() + 1e-6)
    return weight.clamp(max=LARGEST_WEIGHT).detach()


def verdicts(adversary: Adversary, parameters: Parameters, picture: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) in -1..1 -> (B, 1, h, w), one number for each patch: above 0 for a picture, below 0 for a
    reconstruction. In bf16 where torch can; f32 comes out."""
    with mixed_precision(str(picture.device)):
        judged: torch.Tensor = _verdicts(TorchOps(), adversary, View(parameters, prefix=PREFIX), picture)
    return judged.float()


def _verdicts(ops: Ops, adversary: Adversary, w: View, picture: Tensor) -> Tensor:
    x = picture
    for level, channels in enumerate(adversary.widths):
        x = conv(ops, w / f"convs.{level}", x, channels, kernel=4, stride=2, padding=(1, 1, 1, 1))
        if level > 0:  # not before the first nonlinearity: contrast and colour are part of what it judges
            x = group_norm(ops, w / f"norms.{level}", x, adversary.groups, 1e-5)
        x = ops.silu(x)
    return conv(ops, w / "out", x, 1)


def _named(parameters: Parameters, name: str) -> torch.Tensor:
    if name not in parameters:
        raise InvalidRequest(f"there is no parameter '{name}' to compare strengths at; name the last layer's")
    return parameters[name]
