"""ControlNet and textual inversion training reduces the loss and does not change the model."""

from collections.abc import Callable

import numpy as np
import torch

from pochade.configs.networks import ControlNetConfig
from pochade.diffusion.schedule import noise_schedule
from pochade.training.data.examples import uniform_latents
from pochade.training.losses import controlnet, diffusion, inversion
from pochade.training.parameters import Parameters
from tests.training.tiny import TEXT, UNET

SCHEDULE = noise_schedule()
CONTROL = ControlNetConfig(unet=UNET, hint_widths=(8, 8))
WORD = TEXT.vocabulary
Loss = Callable[[Parameters, np.random.Generator], torch.Tensor]


def frozen() -> Parameters:
    """A model in which everything has a say: nothing is zero, as it is in a fresh one."""
    generator = torch.Generator().manual_seed(2)
    return {
        name: tensor if tensor.any() else 0.2 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in diffusion.initialize(TEXT, UNET, seed=0).items()
    }


class Striped:
    """Latents that are stripes, upright or level, and hints that say which; the captions say nothing."""

    def batch(self, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        level = torch.from_numpy(rng.random((count, 1, 1, 1)) < 0.5)
        upright = torch.tensor([2.0, 2.0, -2.0, -2.0]).expand(count, 4, 4, 4)
        latents = torch.where(level, upright.transpose(2, 3), upright)
        return latents, level.float().expand(count, 3, 8, 8), [""] * count


def tokenize(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Every text is the new word."""
    return np.array([[18, WORD, 19, 19, 19, 19]] * len(texts)), np.full(len(texts), 2)


def learn(loss: Loss, parameters: Parameters, steps: int, rate: float) -> tuple[float, float]:
    """The error at the same questions before and after."""

    def error() -> float:
        with torch.no_grad():
            return float(sum(loss(parameters, np.random.default_rng((9, seed))) for seed in range(8)))

    for tensor in parameters.values():
        tensor.requires_grad_(True)
    optimizer = torch.optim.Adam(parameters.values(), lr=rate)
    before = error()
    for step in range(steps):
        optimizer.zero_grad()
        loss(parameters, np.random.default_rng((1, step))).backward()
        optimizer.step()
    return before, error()


def test_a_controlnet_learns_what_the_hint_says() -> None:
    model = frozen()
    kept = {name: tensor.clone() for name, tensor in model.items()}
    parameters = controlnet.initialize(CONTROL, model, seed=1)
    loss = controlnet.loss(
        CONTROL, TEXT, UNET, model, SCHEDULE, Striped(), tokenize_empty, batch=16, prediction="v_prediction"
    )
    before, after = learn(loss, parameters, 60, 1e-2)
    assert after < 0.7 * before
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.items())
    assert all(tensor.grad is None for tensor in model.values())


def test_a_controlnet_adds_nothing_at_first() -> None:
    model = frozen()
    parameters = controlnet.initialize(CONTROL, model, seed=1)
    losses = [
        controlnet.loss(
            CONTROL, TEXT, UNET, model, SCHEDULE, examples, tokenize_empty, batch=4, prediction="epsilon"
        )(parameters, np.random.default_rng(0))
        for examples in (Striped(), Unhinted())
    ]
    assert torch.equal(*losses)


def test_the_vectors_of_a_word_learn_alone() -> None:
    model = frozen()
    kept = {name: tensor.clone() for name, tensor in model.items()}
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(3)).half()
    loss = inversion.loss(
        TEXT,
        UNET,
        model,
        SCHEDULE,
        uniform_latents(latents, lambda index, rng: "x"),
        tokenize,
        batch=8,
        prediction="v_prediction",
    )
    parameters = {inversion.VECTORS: torch.zeros(1, TEXT.width)}
    before, after = learn(loss, parameters, 60, 5e-2)
    assert after < 0.995 * before  # a word says little in so small a model
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.items())


class Unhinted(Striped):
    """The same latents, with hints that say nothing."""

    def batch(self, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        latents, hints, captions = super().batch(count, rng)
        return latents, torch.zeros_like(hints), captions


def tokenize_empty(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([[18, 19, 19, 19, 19, 19]] * len(texts)), np.full(len(texts), 1)
