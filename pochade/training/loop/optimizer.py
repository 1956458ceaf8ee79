"""The optimizer of a training plan: AdamW, or Muon for matrices and AdamW for everything else."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import AdamW, Optimizer

from pochade.training.loop.plan import TrainingPlan
from pochade.training.parameters import Parameters
from pochade.training.precision import has_native_bf16

OUTER = ("conv_in.", "conv_out.", "embedding.weight")
"""Weights of two or more dimensions that Muon leaves to AdamW: the first and last layers, and embeddings
(Jordan et al. 2024)."""

ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Newton-Schulz iterations, and their quintic polynomial, from the same source. Singular values end between
0.7 and 1.2, which trains as well as 1."""


WIDE = 1.8
"""From this ratio of columns to rows on, iterating on X X^T alone takes fewer products than on X."""


class Muon(Optimizer):
    """Momentum whose update is replaced by the nearest semi-orthogonal matrix (Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon/).

    A kernel (O, I, h, w) counts as a matrix (O, I h w). The update is multiplied by sqrt(max(1, rows /
    columns)). `torch.optim.Muon` takes matrices only, one at a time, and always computes in bf16, which
    processors without it emulate; here matrices of one shape are computed together, in bf16 where it is fast.

    State of a parameter: "step", and "exp_avg", the momentum, with the names that AdamW has for them.
    """

    def __init__(self, params: Iterable[dict[str, Any]], *, lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[torch.Tensor]] = {}
            for tensor in group["params"]:
                if tensor.grad is not None:
                    shapes.setdefault((len(tensor), tensor[0].numel()), []).append(tensor)
            for (rows, columns), tensors in shapes.items():
                self._update(tensors, rows, columns, **group)

    def _update(
        self,
        tensors: list[torch.Tensor],
        rows: int,
        columns: int,
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        **_: object,
    ) -> None:
        gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
        for tensor in tensors:
            self.state[tensor]["step"] += 1
        momenta = [self.state[tensor]["exp_avg"] for tensor in tensors]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        ahead = torch._foreach_lerp(gradients, momenta, momentum)  # Nesterov's
        updates = orthogonalize(torch.stack([each.reshape(rows, columns) for each in ahead]))
        torch._foreach_mul_(tensors, 1 - lr * weight_decay)
        scale = lr * math.sqrt(max(1.0, rows / columns))
        for tensor, update in zip(tensors, updates, strict=True):
            tensor.sub_(update.view(tensor.shape), alpha=scale)


def orthogonalize(matrices: torch.Tensor, iterations: int = ITERATIONS) -> torch.Tensor:
    """Approximate U V^T of each matrix' singular value decomposition U S V^T. (N, R, C) -> (N, R, C)."""
    dtype = torch.bfloat16 if has_native_bf16(matrices.device.type) else torch.float32
    turned = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if turned else matrices
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(dtype)
    if x.shape[2] < WIDE * x.shape[1]:
        for _ in range(iterations):
            x = _polynomial(x @ x.mT) @ x
    else:
        x = _product_of_polynomials((x @ x.mT).float(), iterations).to(dtype) @ x
    result: torch.Tensor = x.mT if turned else x
    result = result.to(matrices.dtype)
    return result


def _polynomial(gram: torch.Tensor) -> torch.Tensor:
    """a I + b G + c G^2, by which an iteration multiplies X. gram: G = X X^T, (N, R, R)."""
    a, b, c = COEFFICIENTS
    q = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    q.diagonal(dim1=1, dim2=2).add_(a)
    return q


def _product_of_polynomials(gram: torch.Tensor, iterations: int) -> torch.Tensor:
    """The product of the polynomials of all iterations.

    Polynomials of one matrix commute, so multiplying X by q makes q G q of its G, and X itself is not needed.
    """
    product = _polynomial(gram)
    q = product
    for _ in range(iterations - 1):
        gram = q @ gram @ q
        q = _polynomial(gram)
        product = q @ product
    return product


@dataclass(frozen=True)
class Optimizers:
    """Optimizers of different parameters that step together."""

    parts: tuple[Optimizer, ...]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def state_of(self, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
        """The state of a parameter: "step", "exp_avg", and for AdamW "exp_avg_sq"."""
        return next(part.state[tensor] for part in self.parts if tensor in part.state)

    def step(self) -> None:
        for part in self.parts:
            part.step()


def optimizer_of(parameters: Parameters, plan: TrainingPlan) -> Optimizers:
    """The optimizers of a plan with their initial states.

    AdamW (Loshchilov and Hutter 2019) does not decay norms, biases and embeddings. A group's "factor" is its
    learning rate relative to the plan's.
    """
    adamw: dict[tuple[float, float], list[torch.Tensor]] = {}
    muon: dict[float, list[torch.Tensor]] = {}
    for name, tensor in parameters.items():
        factor = next((each for prefix, each in plan.slower.items() if name.startswith(prefix)), 1.0)
        if plan.matrix_rate is not None and tensor.ndim > 1 and not any(each in name for each in OUTER):
            muon.setdefault(factor * plan.matrix_rate / plan.learning_rate, []).append(tensor)
        else:
            decay = plan.weight_decay if tensor.ndim > 1 and "embedding.weight" not in name else 0.0
            adamw.setdefault((decay, factor), []).append(tensor)
    parts: list[Optimizer] = []
    if adamw:
        groups = [
            {"params": tensors, "weight_decay": decay, "factor": factor}
            for (decay, factor), tensors in adamw.items()
        ]
        parts.append(AdamW(groups, lr=plan.learning_rate, betas=plan.betas, fused=True))
    if muon:
        groups = [
            {"params": tensors, "weight_decay": plan.weight_decay, "factor": factor}
            for factor, tensors in muon.items()
        ]
        parts.append(Muon(groups, lr=plan.learning_rate))
    for part in parts:
        for tensor in (each for group in part.param_groups for each in group["params"]):
            names = ("exp_avg",) if isinstance(part, Muon) else ("exp_avg", "exp_avg_sq")
            part.state[tensor] = {
                "step": torch.zeros((), device=tensor.device),
                **{name: torch.zeros_like(tensor, requires_grad=False) for name in names},
            }
    return Optimizers(tuple(parts))
