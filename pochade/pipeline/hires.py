"""The second pass of a drawing, on a larger picture."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pochade.diffusion.samplers import Sampler
from pochade.diffusion.samplers.step import Step
from pochade.diffusion.schedule import NoiseSchedule, sigmas
from pochade.images.upscaling import LATENT_UPSCALERS, find_upscaler, upscaled, upscaled_latent
from pochade.pipeline.canvas import Canvas, blank
from pochade.pipeline.conditioning import Told
from pochade.pipeline.drawing import Pass
from pochade.pipeline.networks import Networks
from pochade.pipeline.pictures import from_image, to_images
from pochade.request import Request
from pochade.ways import Hires

Floats = NDArray[np.float32]


def second_pass(
    first: Pass, told: Told, schedule: NoiseSchedule, sampler: Sampler, networks: Networks
) -> Pass | None:
    """What follows the first pass, if its request says so. Its canvas is empty yet. told: in it.

    It does exactly as many steps as were asked for, from the level of its strength, as in A1111.
    """
    asked = first.request.hires
    if asked is None:
        return None
    find_upscaler(asked.upscaler)
    request = _larger(first.request, asked, networks.autoencoder_config.factor)
    whole = min(schedule.steps, round(request.steps / asked.denoising_strength))
    levels = sigmas(schedule, request.schedule, whole, automatic=sampler.schedule)[-request.steps - 1 :]
    return replace(first, request=request, told=told, canvas=Canvas(), levels=levels, noise=None)


def both(first: Iterator[Step], second: Callable[[Floats], Iterator[Step]]) -> Iterator[Step]:
    """The steps of two passes. second: from the first one's latent."""
    step = None
    for step in first:
        yield step
    if step is not None:
        yield from second(step.x)


def _larger(request: Request, hires: Hires, factor: int) -> Request:
    """In another size, of whole latent pixels."""
    assert request.width is not None and request.height is not None
    width, height = hires.size or (round(request.width * hires.scale), round(request.height * hires.scale))
    width, height = (max(factor, side // factor * factor) for side in (width, height))
    return replace(request, width=width, height=height, steps=hires.steps or request.steps)


def enlarged(networks: Networks, request: Request, latent: Floats) -> Canvas:
    """What the second pass draws over: the first one's latent (B, C, h, w), larger. request: the second's."""
    assert request.width is not None and request.height is not None and request.hires is not None
    factor, name = networks.autoencoder_config.factor, find_upscaler(request.hires.upscaler)
    if name in LATENT_UPSCALERS:
        start = upscaled_latent(latent, request.width // factor, request.height // factor, name)
    else:
        images = to_images(networks.decode(latent))
        sharp = [upscaled(image, request.width, request.height, name) for image in images]
        start = networks.encode(np.stack([from_image(image) for image in sharp]))
    return replace(blank(networks, request.width, request.height), latent=start)
