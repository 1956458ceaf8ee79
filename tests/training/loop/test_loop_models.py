"""The training loop with the real losses: every model learns, and the result can draw."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import pochade
from pochade.engines.torch import TorchOps
from pochade.models.autoencoder import decode
from pochade.prompts.tokenizer_files import load_tokenizer
from pochade.training.data.vocabulary import train_vocabulary
from pochade.training.export import export, part
from pochade.training.loop import TrainingPlan, averaged, train
from pochade.training.losses import autoencoder, diffusion, text
from pochade.weights import View
from tests.training.tiny import (
    CODER,
    TEXT,
    UNET,
    autoencoder_loss,
    diffusion_loss,
    examples,
    square,
    tokenize,
)

PLAN = TrainingPlan(steps=60, learning_rate=3e-3, warmup=5, log_every=20, save_every=1000)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_text_encoder_and_unet_learn(tmp_path: Path) -> None:
    plan = replace(PLAN, steps=100, learning_rate=6e-3)
    start = diffusion.initialize(TEXT, UNET, seed=0)
    losses = [
        p.loss for p in train(diffusion_loss(), diffusion.initialize(TEXT, UNET, seed=0), plan, tmp_path)
    ]
    assert losses[-1] < 0.8 * losses[0]
    assert not any(torch.equal(tensor, start[name]) for name, tensor in averaged(tmp_path).items())


def test_the_autoencoder_learns(tmp_path: Path) -> None:
    losses = [
        p.loss for p in train(autoencoder_loss(), autoencoder.initialize(CODER, seed=0), PLAN, tmp_path)
    ]
    assert losses[-1] < 0.7 * losses[0]


def test_an_anchored_autoencoder_learns_while_its_latents_stay(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = np.stack([square(rng) for _ in range(8)])
    first = autoencoder.initialize(CODER, seed=0)
    first["quant_conv.weight"] *= 40  # latents of about unit variance
    before = autoencoder.encode_all(CODER, first, pictures)
    anchor = {name: tensor.clone() for name, tensor in first.items()}
    loss = autoencoder.anchored_loss(CODER, anchor, square, 4)
    losses = [p.loss for p in train(loss, first, PLAN, tmp_path)]
    assert losses[-1] < 0.7 * losses[0]
    drift = autoencoder.encode_all(CODER, averaged(tmp_path), pictures) - before
    free = autoencoder.loss(CODER, square, 4)
    for _ in train(free, {name: tensor.clone() for name, tensor in anchor.items()}, PLAN, tmp_path / "free"):
        pass
    wandering = autoencoder.encode_all(CODER, averaged(tmp_path / "free"), pictures) - before
    assert drift.std() < 0.2 * before.std() < wandering.std()


def test_the_text_encoder_learns_to_tell_captions_apart(tmp_path: Path) -> None:
    loss = text.loss(TEXT, examples(8), tokenize, batch=8)
    losses = [p.loss for p in train(loss, text.initialize(TEXT, (4, 4, 4), seed=0), PLAN, tmp_path)]
    assert losses[-1] < 0.5 * losses[0]


def test_folding_the_scale_changes_no_picture() -> None:
    parameters = autoencoder.initialize(CODER, seed=3)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    latents = autoencoder.encode_all(CODER, parameters, pictures)
    config, folded = autoencoder.fold_scale(CODER, parameters, latents)
    even = autoencoder.encode_all(config, folded, pictures)
    assert torch.allclose(even.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-5)
    assert torch.allclose(even.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-5)
    with torch.no_grad():
        before = decode(TorchOps(), CODER, View(parameters), latents)
        after = decode(TorchOps(), config, View(folded), even)
    assert torch.allclose(before, after, atol=1e-4)


def test_an_exported_model_draws(tmp_path: Path) -> None:
    vocabulary = train_vocabulary(["a red apple", "a green apple"], tmp_path / "tokenizer", size=530)
    tokenizer = load_tokenizer(vocabulary)
    config = replace(TEXT, vocabulary=len(tokenizer.vocabulary), positions=77, end_token=tokenizer.end_id)
    weights = diffusion.initialize(config, UNET, seed=0)
    export(
        tmp_path / "model",
        text=(config, part(weights, "text_encoder.")),
        unet=(UNET, part(weights, "unet.")),
        autoencoder=(CODER, autoencoder.initialize(CODER, seed=0)),
        tokenizer=vocabulary,
    )
    pipeline = pochade.load(tmp_path / "model", engine="numpy")
    side = UNET.sample_size * CODER.factor
    assert pipeline.txt2img("a red apple", seed=1, steps=2).images[0].size == (side, side)
    assert pipeline.networks.unet_config == UNET
