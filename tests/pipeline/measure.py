"""Whole pictures of diffusers' pipelines and of Pochade, from the same noise and with equivalent samplers.

Two conventions differ and are equalized here. Pochade starts from noise of deviation sqrt(1 + sigma^2) with
every sampler; diffusers, with some of theirs, from sigma. And DPM-Solver and UniPC round the timesteps of
Karras' sigmas in diffusers, so that the model is told another noise level than it gets; here they stay
fractions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)

from pochade.diffusion.brownian import batch_path
from pochade.diffusion.noise import batch_noise
from pochade.diffusion.samplers import SAMPLERS as OURS
from pochade.pipeline import Pipeline
from pochade.request import Request
from tests.reference import FACTOR, NOISE_SCHEDULE, Floats, psnr

KARRAS: Mapping[str, Any] = {"use_karras_sigmas": True, "timestep_spacing": "linspace"}
MIDPOINT: Mapping[str, Any] = {"solver_type": "midpoint", "final_sigmas_type": "zero"}


@dataclass(frozen=True, kw_only=True)
class Theirs:
    """diffusers' scheduler for a sampler of Pochade, and Pochade's schedule with the same sigmas.

    scaled: whether it keeps latents at unit variance, so that the initial latent is the noise.
    """

    make: Callable[..., Any]
    schedule: str
    scaled: bool = True


SAMPLERS: Mapping[str, Theirs] = {
    "Euler": Theirs(make=partial(EulerDiscreteScheduler, **KARRAS), schedule="Karras", scaled=False),
    "Euler a": Theirs(
        make=partial(EulerAncestralDiscreteScheduler, timestep_spacing="linspace"),
        schedule="Uniform",
        scaled=False,
    ),
    "Heun": Theirs(make=partial(HeunDiscreteScheduler, **KARRAS), schedule="Karras", scaled=False),
    "DDIM": Theirs(
        make=partial(DDIMScheduler, timestep_spacing="leading", steps_offset=1, clip_sample=False),
        schedule="DDIM",
    ),
    "DPM++ 2M": Theirs(make=partial(DPMSolverMultistepScheduler, **KARRAS, **MIDPOINT), schedule="Karras"),
    "DPM++ 2M SDE": Theirs(
        make=partial(DPMSolverMultistepScheduler, algorithm_type="sde-dpmsolver++", **KARRAS, **MIDPOINT),
        schedule="Karras",
    ),
    "UniPC order 2": Theirs(make=partial(UniPCMultistepScheduler, **KARRAS), schedule="Karras"),
    "LCM": Theirs(make=LCMScheduler, schedule="LCM"),
}

WITH_NOISE = ("ddim", "euler_ancestral_discrete", "dpmsolver_multistep", "lcm")
"""The modules of diffusers' schedulers that draw noise."""


def draw_theirs(
    pipeline: Any,
    label: str,
    noise: Floats,
    seeds: Sequence[int],
    *,
    steps: int = 20,
    cfg_scale: float = 7.0,
    rounded: bool = False,
    **call: Any,
) -> Any:
    """Draw with diffusers' pipeline: (B, H, W, 3) bytes. noise: (B, C, h, w), unit normal.

    seeds: of Pochade; stochastic samplers get their further draws. rounded: keep diffusers' rounding of the
    timesteps of Karras' sigmas. call: further arguments of the pipeline.
    """
    prediction = pipeline.scheduler.config.prediction_type
    theirs = SAMPLERS[label]
    scheduler = theirs.make(**NOISE_SCHEDULE, prediction_type=prediction)
    if not rounded and isinstance(scheduler, DPMSolverMultistepScheduler | UniPCMultistepScheduler):
        _keep_fractions(scheduler)
    scheduler.set_timesteps(steps)
    start = torch.from_numpy(noise)
    if not theirs.scaled:
        start = start * (1 + float(scheduler.sigmas[0]) ** 2) ** 0.5 / scheduler.init_noise_sigma
    original, pipeline.scheduler = pipeline.scheduler, scheduler
    try:
        levels = scheduler.sigmas.tolist() if OURS[label].brownian else None
        with _draws_of(seeds, noise.shape[1:], levels):
            pictures = pipeline(
                num_inference_steps=steps,
                guidance_scale=cfg_scale,
                latents=start,
                height=noise.shape[2] * FACTOR,
                width=noise.shape[3] * FACTOR,
                output_type="pil",
                **call,
            ).images
    finally:
        pipeline.scheduler = original
    return np.stack([np.asarray(picture) for picture in pictures])


def draw_ours(
    pipeline: Pipeline, label: str, noise: Floats, seeds: Sequence[int], prompt: str, **options: Any
) -> Any:
    """Draw with Pochade from the same noise: (B, H, W, 3) bytes. Defaults are those of `draw_theirs`."""
    request = {
        "sampler": label,
        "schedule": SAMPLERS[label].schedule,
        "steps": 20,
        "cfg_scale": 7.0,
        "seed": seeds[0],
        "batch_size": len(seeds),
        "height": noise.shape[2] * FACTOR,
        "width": noise.shape[3] * FACTOR,
        **options,
    }
    result = pipeline.txt2img(prompt, noise=noise, **request)
    assert result.seeds == list(seeds)
    return np.stack([np.asarray(picture) for picture in result.images])


def starting_noise(seeds: Sequence[int], shape: tuple[int, int, int] = (4, 6, 10)) -> Floats:
    """Return noise from another generator than Pochade's, to detect a pipeline that ignores `noise`."""
    return np.random.default_rng(seeds).standard_normal((len(seeds), *shape), np.float32)


def inpainting_inputs(pipeline: Any, noise: Floats) -> dict[str, Any]:
    """Return inputs for diffusers' inpainting pipeline that redraw everything over a gray picture.

    The picture's latent is passed as the posterior's mean; by itself diffusers would draw from the posterior.
    """
    rows, _, height, width = noise.shape
    gray = torch.zeros(rows, 3, height * FACTOR, width * FACTOR)
    with torch.inference_mode():
        mean = pipeline.vae.encode(gray).latent_dist.mean * pipeline.vae.config.scaling_factor
    return {"image": gray, "mask_image": torch.ones_like(gray[:, :1]), "masked_image_latents": mean}


def last_latent(pipeline: Pipeline, noise: Floats, **options: Any) -> Floats:
    """Return the final latent of Pochade's pipeline."""
    *_, last = pipeline.stream(Request(**options), noise=noise)
    latent: Floats = last.denoised
    return latent


def least_psnr(ours: Any, theirs: Any) -> float:
    """Return the PSNR of the worst picture of a batch, dB."""
    return min(psnr(mine, other) for mine, other in zip(ours, theirs, strict=True))


def _keep_fractions(scheduler: Any) -> None:
    """Make the scheduler pass the exact timestep to the model instead of a rounded one."""
    rounding = scheduler.set_timesteps
    log_sigmas = np.log(((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).numpy() ** 0.5)

    def set_timesteps(steps: int, device: Any = None) -> None:
        rounding(steps, device=device)
        exact = [float(scheduler._sigma_to_t(sigma, log_sigmas)) for sigma in scheduler.sigmas[:-1].numpy()]
        scheduler.timesteps = torch.tensor(exact, dtype=torch.float32)

    scheduler.set_timesteps = set_timesteps


@contextmanager
def _draws_of(seeds: Sequence[int], shape: tuple[int, ...], levels: Sequence[float] | None) -> Iterator[None]:
    """Make diffusers' schedulers draw the noise that Pochade's generator draws after the starting noise.

    levels: the noise levels of the sampler, if it uses a Brownian path.
    """
    draw = batch_noise(seeds, (shape[0], shape[1], shape[2]))
    draw()
    if levels is not None:
        path, steps = batch_path(seeds, (shape[0], shape[1], shape[2])), iter(pairwise(levels))

        def draw() -> Floats:
            sigma, after = next(steps)
            along: Floats = (
                path(sigma, after, 1.0) if after > 0 else np.zeros((len(seeds), *shape), np.float32)
            )
            return along

    def randn_tensor(wanted: Any, **_: Any) -> torch.Tensor:
        values = torch.from_numpy(draw())
        assert tuple(wanted) == tuple(values.shape)
        return values

    with ExitStack() as patches:
        for module in WITH_NOISE:
            name = f"diffusers.schedulers.scheduling_{module}.randn_tensor"
            patches.enter_context(patch(name, randn_tensor))
        yield
