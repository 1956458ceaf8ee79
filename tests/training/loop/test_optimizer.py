"""Muon against torch's own and against the singular value decomposition; which weights it trains."""

from pathlib import Path

import pytest
import torch

from pochade.training.loop import TrainingPlan, train
from pochade.training.loop.optimizer import COEFFICIENTS, Muon, optimizer_of, orthogonalize
from pochade.training.parameters import Parameters
from tests.training.loop.test_loop_state import loss, same

PLAN = TrainingPlan(
    steps=8, learning_rate=0.01, matrix_rate=0.02, warmup=2, save_every=4, log_every=1, weight_decay=0.1
)


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (24, 24), (24, 30)])
def test_updates_are_nearly_orthogonal_with_the_same_singular_vectors(shape: tuple[int, int]) -> None:
    noise = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(noise, full_matrices=False)
    matrices = left @ torch.diag(torch.linspace(1, 0.05, min(shape))) @ right
    found = orthogonalize(matrices)
    values = left.mT @ found @ right.mT
    diagonal = values.diagonal(dim1=1, dim2=2)
    assert diagonal.min() > 0.6 and diagonal.max() < 1.3
    assert (values - torch.diag_embed(diagonal)).abs().max() < 0.03


def test_wide_matrices_and_narrow_ones_are_iterated_to_the_same_result() -> None:
    matrices = torch.randn(2, 16, 64, generator=torch.Generator().manual_seed(4))
    parts = matrices @ torch.diag(torch.logspace(0, -3, 64))  # badly conditioned
    a, b, c = COEFFICIENTS
    x = parts.double() / parts.double().norm(dim=(1, 2), keepdim=True)
    for _ in range(5):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    assert (orthogonalize(parts).double() - x).norm() < 1e-3 * x.norm()


def test_matrices_move_as_torchs_own_moves_them() -> None:
    """Theirs computes in bf16 everywhere, so an update differs by up to a few percent."""
    generator = torch.Generator().manual_seed(1)
    ours = [torch.randn(20, 8, generator=generator) for _ in range(3)]
    theirs = [tensor.clone().requires_grad_() for tensor in ours]
    first = [tensor.clone() for tensor in ours]
    muon = Muon([{"params": ours}], lr=0.05)
    muon.param_groups[0]["weight_decay"] = 0.1
    for tensor in ours:
        muon.state[tensor] = {"step": torch.zeros(()), "exp_avg": torch.zeros_like(tensor)}
    other = torch.optim.Muon(theirs, lr=0.05, weight_decay=0.1)
    for _ in range(5):
        for one, two in zip(ours, theirs, strict=True):
            one.grad = torch.randn(20, 8, generator=generator)
            two.grad = one.grad.clone()
        muon.step()
        other.step()
    for begin, one, two in zip(first, ours, theirs, strict=True):
        assert (one - two).norm() < 0.03 * (two - begin).norm()


def test_a_kernel_is_a_matrix_and_embeddings_ends_and_vectors_are_left_to_adamw() -> None:
    shapes = {
        "unet.conv_in.weight": (8, 4, 3, 3),
        "unet.mid.conv1.weight": (8, 8, 3, 3),
        "unet.mid.conv1.bias": (8,),
        "text_encoder.token_embedding.weight": (16, 8),
        "text_encoder.fc.weight": (8, 8),
    }
    parameters = {name: torch.zeros(shape, requires_grad=True) for name, shape in shapes.items()}
    plan = TrainingPlan(steps=1, learning_rate=0.01, matrix_rate=0.04, slower={"text_encoder.": 0.5})
    optimizer = optimizer_of(parameters, plan)
    names = {id(tensor): name for name, tensor in parameters.items()}
    by_muon = {
        names[id(tensor)]: group["factor"]
        for part in optimizer.parts
        if isinstance(part, Muon)
        for group in part.param_groups
        for tensor in group["params"]
    }
    assert by_muon == {"unet.mid.conv1.weight": 4.0, "text_encoder.fc.weight": 2.0}
    for name, tensor in parameters.items():
        assert ("exp_avg_sq" in optimizer.state_of(tensor)) == (name not in by_muon)

    gradient = torch.randn(8, 8, 3, 3, generator=torch.Generator().manual_seed(2))
    flat = {"m.weight": torch.zeros(8, 72, requires_grad=True)}
    other = optimizer_of(flat, plan)
    parameters["unet.mid.conv1.weight"].grad, flat["m.weight"].grad = gradient, gradient.reshape(8, 72)
    optimizer.step()
    other.step()
    assert parameters["unet.mid.conv1.weight"].norm() > 0
    assert torch.equal(parameters["unet.mid.conv1.weight"].reshape(8, 72), flat["m.weight"])


def start() -> Parameters:
    generator = torch.Generator().manual_seed(3)
    return {"a.weight": torch.randn(3, 2, generator=generator), "b.bias": torch.full((4,), -1.0)}


def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    for _ in train(loss, start(), PLAN, tmp_path / "whole"):
        pass
    for progress in train(loss, start(), PLAN, tmp_path / "cut"):
        if progress.step == 6:
            break
    for _ in train(loss, start(), PLAN, tmp_path / "cut"):
        pass
    assert same(tmp_path / "whole", tmp_path / "cut")
