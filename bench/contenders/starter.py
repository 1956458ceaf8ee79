"""Whole pictures from the folder in the package: Pochade's default, and diffusers' own pipeline."""

import warnings
from typing import Any

import numpy as np

from measure.worker import Contender, Phases

PROMPT = "a fox, on a light blue background, 3d style"
GUIDANCE = 4.0


def start_noise() -> np.ndarray[Any, np.dtype[np.float32]]:
    """(1, C, h, w) for the native size."""
    import pochade

    networks = pochade.load().networks
    side = networks.unet_config.sample_size
    shape = (1, networks.unet_config.in_channels, side, side)
    return np.random.default_rng(5).standard_normal(shape, np.float32)


def pochade_picture(precision: str, steps: int, noise: Any) -> Contender:
    """`pochade.load()` as a user calls it; the picture (H, W, 3) in 0..255."""
    phases = Phases()
    with phases("import"):
        import pochade
    with phases("load"):
        pipeline = pochade.load(precision=precision)

    def evaluate() -> Any:
        drawn = pipeline.txt2img(PROMPT, steps=steps, cfg_scale=GUIDANCE, noise=noise)
        return np.asarray(drawn.images[0])

    return Contender(evaluate, phases.seconds, threads=0)


def diffusers_picture(precision: str, steps: int, noise: Any) -> Contender:
    """`StableDiffusionPipeline` with the scheduler that the folder names."""
    phases = Phases()
    with phases("import"):
        import torch
        from diffusers import StableDiffusionPipeline
    from pochade.settings import starter_folder

    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
    with phases("load"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = StableDiffusionPipeline.from_pretrained(starter_folder(), dtype=kind)
    pipeline.set_progress_bar_config(disable=True)
    latents = torch.from_numpy(noise).to(kind)

    def evaluate() -> Any:
        drawn = pipeline(
            PROMPT, num_inference_steps=steps, guidance_scale=GUIDANCE, latents=latents, output_type="np"
        )
        return np.rint(drawn.images[0] * 255)

    return Contender(evaluate, phases.seconds, threads=torch.get_num_threads())
