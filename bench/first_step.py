"""From the command line to the first denoising step: a model of SD 1.5's shape in one f32 file of 4 GB.

    python bench/first_step.py [--rounds 3] [--cache FOLDER]

The file holds random numbers and is kept in the cache. Each start is a process of its own that is ended after
the first of twenty guided steps at 512x512. "cold" has neither a compiled graph nor the file in memory (where
the system lets us drop it), "second" has both.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from measure.machine import describe_machine, versions
from measure.record import append
from pochade.checkpoints.folder import Checkpoint, Component
from pochade.checkpoints.keymaps import LazyTensors
from pochade.models.config import autoencoder_config, text_encoder_config, unet_config
from pochade.ops import Shape
from pochade.pipeline.loading.convert import convert
from pochade.pipeline.loading.shapes import autoencoder_shapes, text_encoder_shapes, unet_shapes
from pochade.settings import cache_dir

RESULTS = Path(__file__).parent / "results" / "first_step.jsonl"
GOALS_S = {"cold": 15.0, "second": 5.0}

DOWN, UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
UNET = {
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": [DOWN, DOWN, DOWN, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", UP, UP, UP],
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "sample_size": 64,
}
AUTOENCODER = {
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}
TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
}

START = """
import sys, pochade
pipeline = pochade.load(sys.argv[1], device="cpu")
request = pochade.Request(prompt="a red fox in the snow", seed=1, steps=20, width=512, height=512)
next(pipeline.stream(request))
print("a step", flush=True)
"""
"""What `pochade draw` does until the first step, without the options that it reads."""


def main() -> None:
    options = _options()
    path = options.cache / "sd15-f32.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"writing {path} ...")
        for _ in convert(_random_model(), path):
            pass
    seconds: dict[str, list[float]] = {"cold": [], "second": []}
    for _ in range(options.rounds):
        compiled = options.cache / "compiled"
        shutil.rmtree(compiled, ignore_errors=True)
        _forget(path)
        for kind in seconds:
            seconds[kind].append(_started(path, compiled))
            print(f"{kind}: {seconds[kind][-1]:.1f} s", flush=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    for kind, values in seconds.items():
        verdict = "met" if median(values) < GOALS_S[kind] else "MISSED"
        print(f"{kind}: median {median(values):.1f} s of {len(values)}, goal {GOALS_S[kind]:g} s: {verdict}")
    print(f"peak memory, mapped file included: {peak / 1e9:.1f} GB")
    machine = describe_machine()
    entry = {
        "benchmark": "first_step",
        "seconds": seconds,
        "peak_bytes": peak,
        "file_bytes": path.stat().st_size,
        "machine": machine,
        "versions": versions(("numpy", "openvino")),
    }
    append(options.results, entry)


def _started(path: Path, compiled: Path) -> float:
    """Seconds from the start of a process to its first step. It ends once its graphs are on the disk."""
    environment = {**os.environ, "POCHADE_CACHE": str(compiled)}
    began = time.perf_counter()
    command = [sys.executable, "-c", START, str(path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        seconds = time.perf_counter() - began
    if process.returncode or not said:
        raise SystemExit(f"the start ended with status {process.returncode}, and without a step")
    return seconds


def _forget(path: Path) -> None:
    """Ask the system to drop the file from its memory."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _random_model() -> Checkpoint:
    """Numbers as small as those of trained weights, made one tensor at a time."""

    def component(name: str, config: Mapping[str, object], shapes: Mapping[str, Shape]) -> Component:
        makers = {key: _maker(key, shape) for key, shape in shapes.items()}
        return Component(
            name=name,
            config=config,
            tensors=LazyTensors(makers),
            files=(Path("random"),),
            fingerprint="random",
        )

    return Checkpoint(
        name="random",
        model_index={"_class_name": "StableDiffusionPipeline"},
        unet=component("unet", UNET, unet_shapes(unet_config(UNET))),
        vae=component("vae", AUTOENCODER, autoencoder_shapes(autoencoder_config(AUTOENCODER))),
        text_encoder=component("text_encoder", TEXT, text_encoder_shapes(text_encoder_config(TEXT))),
        text_encoder_2=None,
        scheduler=json.loads('{"prediction_type": "epsilon"}'),
        tokenizer=None,
        tokenizer_2=None,
        pad_ids=(49407,),
    )


def _maker(name: str, shape: Shape) -> Callable[[], NDArray[np.float32]]:
    return partial(_numbers, sum(name.encode()), shape)


def _numbers(seed: int, shape: Shape) -> NDArray[np.float32]:
    numbers = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return np.float32(0.02) * numbers if len(shape) > 1 else 1 + np.float32(0.1) * numbers


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=cache_dir() / "bench")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
