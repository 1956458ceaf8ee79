"""The embedded model: offline, without torch, and the same in diffusers."""

import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import torch

import pochade
from pochade.settings import starter_folder

WEIGHTS_BUDGET_BYTES = 80_000_000


def test_it_fits_the_package() -> None:
    weights = list(starter_folder().rglob("*.safetensors"))
    assert len(weights) == 3 + 1  # and the grids of its 8-bit products
    assert sum(path.stat().st_size for path in weights) <= WEIGHTS_BUDGET_BYTES
    assert (starter_folder() / "README.md").is_file(), "the model card"
    assert (starter_folder() / "NOTICE").is_file()


def test_it_draws_offline_and_without_torch(tmp_path: Path) -> None:
    script = """
        import socket, sys

        def refuse(*arguments, **options):
            raise AssertionError("something tried to use the network")

        class Refused(socket.socket):
            __new__ = refuse

        socket.socket = socket.SocketType = Refused
        socket.create_connection = socket.getaddrinfo = refuse
        import pochade

        result = pochade.load(device="cpu").txt2img("a red apple", seed=1, steps=2)
        result.images[0].save("apple.png")
        heavy = {"torch", "diffusers", "transformers", "tokenizers", "huggingface_hub", "requests"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "apple.png").stat().st_size > 0


def test_diffusers_draws_the_same_picture() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import StableDiffusionPipeline

        reference = StableDiffusionPipeline.from_pretrained(starter_folder(), dtype=torch.float32)
    reference.set_progress_bar_config(disable=True)
    pipeline = pochade.load(device="cpu", precision="f32")
    side = pipeline.networks.unet_config.sample_size
    noise = np.random.default_rng(5).standard_normal((1, 4, side, side), np.float32)
    expected = reference(
        "a red apple",
        num_inference_steps=20,
        guidance_scale=7.0,
        latents=torch.from_numpy(noise),
        output_type="np",
    ).images
    drawn = pipeline.txt2img("a red apple", steps=20, cfg_scale=7.0, noise=noise).images[0]
    error = np.asarray(drawn, np.float64) / 255 - expected[0]
    assert -10 * np.log10(np.mean(error**2)) >= 45
