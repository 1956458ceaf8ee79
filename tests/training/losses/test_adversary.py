"""The adversary: each side's term reaches that side only, it learns, and the decoder learns from it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pochade.errors import InvalidRequest
from pochade.training.loop import TrainingPlan, TrainingProgress, averaged, train
from pochade.training.losses.adversary import (
    PREFIX,
    Adversary,
    Attempt,
    balance,
    discriminator_term,
    generator_term,
    initialize,
    loss,
    verdicts,
    without,
)
from pochade.training.parameters import Parameters

TINY = Adversary(widths=(8, 16), groups=4)
LAST = "decoder.strength"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def texture(rng: np.random.Generator, count: int = 16) -> torch.Tensor:
    """(count, 3, 16, 16): noise of -1 and 1, the same in all channels, which nobody could foresee."""
    return torch.from_numpy(rng.choice([-1.0, 1.0], (count, 1, 16, 16)).astype(np.float32)).expand(
        -1, 3, -1, -1
    )


def guess(parameters: Parameters, rng: np.random.Generator) -> Attempt:
    """A decoder with one parameter: how strong a texture it puts where it does not know the right one."""
    picture, result = texture(rng), parameters[LAST] * texture(rng)
    return Attempt(picture, result, (result - picture).square().mean())


def both(strength: float = 0.3) -> Parameters:
    parameters = {LAST: torch.tensor([strength]), **initialize(TINY, seed=1)}
    for tensor in parameters.values():
        tensor.requires_grad_(True)
    return parameters


def plan(steps: int, **changes: object) -> TrainingPlan:
    settings = {"learning_rate": 5e-3, "warmup": 5, "log_every": steps, "clip_apart": (PREFIX,), **changes}
    return TrainingPlan(steps=steps, **settings)  # type: ignore[arg-type]


def own(parameters: Parameters) -> Parameters:
    return {name: tensor for name, tensor in parameters.items() if name.startswith(PREFIX)}


def test_a_verdict_for_every_patch() -> None:
    parameters = both()
    assert verdicts(TINY, parameters, torch.zeros(2, 3, 24, 16)).shape == (2, 1, 6, 4)
    assert all(name.startswith(PREFIX) for name in initialize(TINY, seed=1))
    assert without(parameters).keys() == {LAST}
    again = initialize(TINY, seed=1)
    assert all(torch.equal(again[name], tensor) for name, tensor in own(parameters).items())


def gradients(value: torch.Tensor, parameters: Parameters) -> dict[str, torch.Tensor | None]:
    found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True, retain_graph=True)
    return dict(zip(parameters, found, strict=True))


def test_each_term_reaches_its_own_side_only() -> None:
    parameters = both()
    attempt = guess(parameters, np.random.default_rng(0))

    deceiving = gradients(generator_term(TINY, parameters, attempt.result), parameters)
    assert [name for name, gradient in deceiving.items() if gradient is not None] == [LAST]
    assert deceiving[LAST].abs() > 0  # type: ignore[union-attr]

    judging = gradients(discriminator_term(TINY, parameters, attempt.picture, attempt.result), parameters)
    assert judging[LAST] is None
    assert all(judging[name].abs().max() > 0 for name in own(parameters))  # type: ignore[union-attr]


def test_one_scalar_gives_the_gradients_of_two_optimizers() -> None:
    parameters = both()
    adversary = replace(TINY, weight=0.7)
    step = loss(adversary, guess, last=LAST).at(0)
    together = gradients(step(parameters, np.random.default_rng(0)), parameters)

    attempt = guess(parameters, np.random.default_rng(0))
    deceiving = generator_term(adversary, parameters, attempt.result)
    weight = 0.7 * balance(attempt.error, deceiving, parameters[LAST])
    decoder = gradients(attempt.error + weight * deceiving, parameters)
    judge = gradients(discriminator_term(adversary, parameters, attempt.picture, attempt.result), parameters)
    for name, gradient in together.items():
        expected = decoder[name] if name == LAST else judge[name]
        assert expected is not None
        assert torch.allclose(gradient, expected, rtol=1e-6, atol=1e-8), name


def test_the_balance_makes_both_equally_strong() -> None:
    parameters = both()
    attempt = guess(parameters, np.random.default_rng(0))
    deceiving = generator_term(TINY, parameters, attempt.result)
    weight = balance(attempt.error, deceiving, parameters[LAST])
    scaled, error = (
        gradients(weight * deceiving, parameters)[LAST],
        gradients(attempt.error, parameters)[LAST],
    )
    # the adversary's gradients are those of bf16
    assert torch.allclose(scaled.norm(), error.norm(), rtol=0.05)  # type: ignore[union-attr]
    assert not weight.requires_grad


def test_it_learns_to_tell_two_kinds_of_pictures_apart(tmp_path: Path) -> None:
    parameters = both(strength=0.5)
    untaught = accuracy(parameters)
    # the decoder stands still
    progress = list(train(loss(TINY, guess, last=LAST), parameters, plan(60, slower={LAST: 0.0}), tmp_path))
    assert progress[-1].skipped == 0
    assert parameters[LAST].item() == 0.5
    assert untaught < 0.8
    assert accuracy(parameters) > 0.97


def accuracy(parameters: Parameters) -> float:
    """The share of patches, of pictures that it has not seen, that it judges rightly."""
    rng = np.random.default_rng(99)
    with torch.no_grad():
        real, false = verdicts(TINY, parameters, texture(rng)), verdicts(TINY, parameters, 0.5 * texture(rng))
    return float(((real > 0).float().mean() + (false < 0).float().mean()) / 2)


def test_the_decoder_learns_from_it_what_no_error_of_pixels_teaches(tmp_path: Path) -> None:
    # Whoever cannot foresee a texture has the smallest square error with none. The adversary asks for one.
    def taught(folder: str, adversary: Adversary) -> float:
        parameters = both()
        list(train(loss(adversary, guess, last=LAST), parameters, plan(120), tmp_path / folder))
        return abs(parameters[LAST].item())

    assert taught("with", replace(TINY, weight=2.0)) > 0.5
    assert taught("without", replace(TINY, start_after=1000)) < 0.1


def test_it_begins_after_its_start_and_survives_a_kill(tmp_path: Path) -> None:
    adversary = replace(TINY, start_after=4)

    def run(folder: str, until: int = 9) -> Parameters:
        parameters = both()
        for progress in training(parameters, tmp_path / folder):
            if progress.step == until:
                break
        return parameters

    def training(parameters: Parameters, folder: Path) -> Iterator[TrainingProgress]:
        settings = plan(9, log_every=1, save_every=2, weight_decay=0.1)
        return train(loss(adversary, guess, last=LAST), parameters, settings, folder)

    early = run("early", until=4)
    assert all(torch.equal(tensor, initialize(TINY, seed=1)[name]) for name, tensor in own(early).items())
    run("whole")
    run("killed", until=3)
    run("killed", until=7)
    resumed = run("killed")
    assert not any(
        torch.equal(tensor, initialize(TINY, seed=1)[name]) for name, tensor in own(resumed).items()
    )
    whole, killed = averaged(tmp_path / "whole"), averaged(tmp_path / "killed")
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


def test_a_wrong_last_layer_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"no parameter 'decoder\.conv_out\.weight'"):
        loss(TINY, guess).at(0)(both(), np.random.default_rng(0))
