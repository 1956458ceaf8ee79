"""The loop: it learns, and a killed run goes on bit for bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import pochade
from pochade.diffusion.schedule import noise_schedule
from pochade.models.config import AutoencoderConfig, TextEncoderConfig, UNetConfig
from pochade.prompts.tokenizer_files import load_tokenizer
from pochade.training import autoencoder, diffusion, text
from pochade.training.export import export, part
from pochade.training.loop import Plan, averaged, train
from pochade.training.vocabulary import train_vocabulary

TEXT = TextEncoderConfig(
    vocabulary=20, positions=6, width=16, feed_forward_width=32, layers=1, heads=2, end_token=19
)
UNET = UNetConfig(
    widths=(8, 16),
    down_depths=((1,), (0,)),
    mid_depth=1,
    up_depths=((0, 0), (1, 1)),
    heads=(2, 2),
    context_width=16,
    groups=4,
    sample_size=4,
)


def tiny_loss() -> object:
    latents = torch.randn(3, 2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    examples = diffusion.Examples(latents=latents, caption=lambda index, rng: "abc"[index])

    def tokenize(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        rows = np.array([[18, ord(text[0]) - 97 if text else 5, 19, 19, 19, 19] for text in texts])
        return rows, np.full(len(texts), 2)

    return diffusion.loss(TEXT, UNET, noise_schedule(), examples, tokenize, batch=8)


def run(folder: Path, *, stop_after: int | None = None, steps: int = 12) -> None:
    plan = Plan(
        steps=steps, learning_rate=1e-3, warmup=2, save_every=4, log_every=1, slower={"text_encoder.": 0.5}
    )
    for progress in train(tiny_loss(), diffusion.fresh(TEXT, UNET, seed=0), plan, folder):
        if progress.step == stop_after:
            return


def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    run(tmp_path / "whole")
    run(tmp_path / "killed", stop_after=7)  # after the state of step 4, so three steps are done again
    run(tmp_path / "killed")
    whole, killed = averaged(tmp_path / "whole"), averaged(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, killed[name]), name


def test_the_averages_follow_the_parameters(tmp_path: Path) -> None:
    run(tmp_path / "run")
    start = diffusion.fresh(TEXT, UNET, seed=0)
    moved = [
        name for name, tensor in averaged(tmp_path / "run").items() if not torch.equal(tensor, start[name])
    ]
    assert len(moved) == len(start)


def test_it_learns(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    plan = Plan(steps=400, learning_rate=3e-3, warmup=5, log_every=50, save_every=1000)
    losses = [p.loss for p in train(tiny_loss(), diffusion.fresh(TEXT, UNET, seed=0), plan, tmp_path)]
    assert losses[-1] < 0.8 * losses[0]


CODER = AutoencoderConfig(widths=(8, 8, 8), layers=1, groups=4)


def test_folding_the_scale_changes_no_picture() -> None:
    parameters = autoencoder.fresh(CODER, seed=3)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    latents = autoencoder.encode_all(CODER, parameters, pictures)
    config, folded = autoencoder.fold_scale(CODER, parameters, latents)
    even = autoencoder.encode_all(config, folded, pictures)
    assert torch.allclose(even.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-5)
    assert torch.allclose(even.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-5)

    from pochade.engines.torch import TorchOps
    from pochade.models.autoencoder import decode
    from pochade.weights import View

    with torch.no_grad():
        before = decode(TorchOps(), CODER, View(parameters), latents)
        after = decode(TorchOps(), config, View(folded), even)
    assert torch.allclose(before, after, atol=1e-4)


def test_the_autoencoder_learns(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    pictures = np.full((4, 20, 20, 3), 255, np.uint8)
    pictures[:, 5:15, 5:15] = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]], np.uint8)[
        :, None, None
    ]
    plan = Plan(steps=60, learning_rate=3e-3, warmup=5, log_every=20, save_every=1000)
    loss = autoencoder.loss(CODER, pictures, 16, 4)
    losses = [p.loss for p in train(loss, autoencoder.fresh(CODER, seed=0), plan, tmp_path)]
    assert losses[-1] < 0.7 * losses[0]


def test_the_decoder_learns_from_fixed_latents(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    pictures = np.full((4, 16, 16, 3), 255, np.uint8)
    pictures[:, 4:12, 4:12] = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]], np.uint8)[
        :, None, None
    ]
    whole = autoencoder.fresh(CODER, seed=0)
    latents = autoencoder.encode_all(CODER, whole, pictures)
    decoding = {name: tensor for name, tensor in whole.items() if name.startswith(("decoder.", "post_quant"))}
    plan = Plan(steps=60, learning_rate=3e-3, warmup=5, log_every=20, save_every=1000)
    loss = autoencoder.decoder_loss(CODER, latents, pictures, 4)
    losses = [p.loss for p in train(loss, decoding, plan, tmp_path)]
    assert losses[-1] < 0.7 * losses[0]
    assert averaged(tmp_path).keys() == decoding.keys()


def test_the_text_encoder_learns_to_tell_captions_apart(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    latents = torch.randn(8, 1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    examples = diffusion.Examples(latents=latents, caption=lambda index, rng: "abcdefgh"[index])

    def tokenize(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        rows = np.array([[18, ord(text[0]) - 97, 19, 19, 19, 19] for text in texts])
        return rows, np.full(len(texts), 2)

    plan = Plan(steps=60, learning_rate=3e-3, warmup=5, log_every=20, save_every=1000)
    loss = text.loss(TEXT, examples, tokenize, batch=8)
    losses = [p.loss for p in train(loss, text.fresh(TEXT, (4, 4, 4), seed=0), plan, tmp_path)]
    assert losses[-1] < 0.5 * losses[0]


def test_an_exported_model_draws(tmp_path: Path) -> None:
    vocabulary = train_vocabulary(["a red apple", "a green apple"], tmp_path / "tokenizer", size=530)
    tokenizer = load_tokenizer(vocabulary)
    config = replace(TEXT, vocabulary=len(tokenizer.vocabulary), positions=77, end_token=tokenizer.end_id)
    weights = diffusion.fresh(config, UNET, seed=0)
    export(
        tmp_path / "model",
        text=(config, part(weights, "text_encoder.")),
        unet=(UNET, part(weights, "unet.")),
        autoencoder=(CODER, autoencoder.fresh(CODER, seed=0)),
        tokenizer=vocabulary,
    )
    pipeline = pochade.load(tmp_path / "model", engine="numpy")
    side = UNET.sample_size * CODER.factor
    assert pipeline.txt2img("a red apple", seed=1, steps=2).images[0].size == (side, side)
    assert pipeline.networks.unet_config == UNET
