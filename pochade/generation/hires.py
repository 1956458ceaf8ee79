"""The second pass on a larger picture (hires. fix)."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pochade.diffusion.samplers import find_sampler
from pochade.diffusion.samplers.step import SamplerStep
from pochade.errors import InvalidRequest
from pochade.generation.canvas import Canvas, blank_canvas
from pochade.generation.conditioning import PromptPlan
from pochade.generation.decoding import check_finite, decoded_images, from_image
from pochade.generation.denoise_loop import Pass, all_levels, denoise, latent_shape
from pochade.generation.pass_settings import controls_of, second_request, size_of_second_pass
from pochade.generation.settle import Prepared
from pochade.generation.upscale import resize_with
from pochade.images.upscaling import (
    LATENT_UPSCALERS,
    Box,
    find_upscaler,
    is_model_file,
    upscaled,
    upscaled_latent,
)
from pochade.loading.auxiliary import upscaler_on
from pochade.loading.model import Model
from pochade.loading.networks import Networks
from pochade.request import Settled

if TYPE_CHECKING:
    from pochade.generation.refiner import RefinerSwitch

Floats = NDArray[np.float32]


def two_passes(
    prepared: Prepared, networks: Networks, larger_networks: Networks, only: Pass, prompt_plan: PromptPlan
) -> tuple[Iterator[tuple[SamplerStep, int]], tuple[int, int, int]]:
    """Return the steps of two passes, with the number of the pass, and the shape (C, h, w) of the last
    latent.

    networks, larger_networks: of the two passes, with the request's settings. only: the pass of a request
    without hires; its refiner is used in the second pass. prompt_plan: of the second pass.

    Raises InvalidRequest for passes that cannot be combined, before anything is drawn.
    """
    context, request = prepared.context, prepared.request
    model, later = context.model, context.last
    assert request.hires is not None
    check_latents(model, later.model, request.hires.upscaler)
    first = replace(only, refiner=None, controls=controls_of(request, "first"))
    second = second_pass(first, prompt_plan, later.model, larger_networks, only.refiner)
    assert second is not None
    decoded = latent_shape(larger_networks, second.request)
    second_sampler = find_sampler(second.request.sampler)
    begun_from = request.hires.denoising_strength  # at 0 what was enlarged is the result

    def enlarged_pass(latent: Floats) -> Iterator[SamplerStep]:
        check_finite(latent, "the UNet", networks.unet.engine.precision)
        context.release(networks.unet)
        larger_networks.graphs.begin_part()  # may drop the UNet's first graph; the decoder is needed
        if not context.low_memory:
            larger_networks.prepare_decode(decoded)
        larger = upscaled_canvas(networks, larger_networks, request, second.request, latent)
        for each in (networks, larger_networks):
            context.release(each.autoencoder, each.wide_autoencoder)
        if not begun_from:
            assert larger.latent is not None
            yield SamplerStep(0, 1, larger.latent, larger.latent)
            return
        drawing = replace(second, canvas=larger)
        by = later.model
        yield from denoise(larger_networks, by.schedule, by.parametrization, second_sampler, drawing)

    steps = denoise(networks, model.schedule, model.parametrization, prepared.sampler, first)
    return chain_passes(steps, enlarged_pass, len(second.levels) - 1 if begun_from else 1), decoded


def second_pass(
    first: Pass,
    prompt_plan: PromptPlan,
    model: Model,
    networks: Networks,
    refiner: "RefinerSwitch | None" = None,
) -> Pass | None:
    """Return the second pass, with an empty canvas, if the request has one. prompt_plan, refiner: its own.

    model, networks: of the second pass, with the request's settings. It does exactly the requested number of
    steps, starting at the level of its strength, as in A1111.

    Raises InvalidRequest for ControlNets of another family, before the first pass is drawn.
    """
    hires = first.request.hires
    if hires is None:
        return None
    if is_model_file(hires.upscaler):
        networks.auxiliary(Path(hires.upscaler), upscaler_on)
    else:
        find_upscaler(hires.upscaler)
    request = second_request(first.request)
    width, height = size_of_second_pass(first.request, hires, networks.traits.multiple)
    request = replace(request, width=width, height=height)
    controls = controls_of(request, "second")
    if controls:
        from pochade.generation.controlnet import check_controls

        check_controls(networks, controls)
    schedule, sampler = model.schedule, find_sampler(request.sampler)
    count = min(schedule.steps, levels_from_noise(request.steps, hires.denoising_strength))
    first_one = max(0, count - request.steps)
    levels = all_levels(schedule, networks, sampler, request.schedule, count)[first_one:]
    return replace(
        first,
        request=request,
        prompt_plan=prompt_plan,
        canvas=Canvas(),
        levels=levels,
        controls=controls,
        noise=None,
        refiner=refiner,
    )


def levels_from_noise(steps: int, strength: float) -> int:
    """Return the total number of levels of which the second pass does the last `steps`, as in A1111: 28 for
    20 steps at strength 0.7."""
    return int(steps / min(max(strength, 1e-6), 0.999))


def chain_passes(
    first: Iterator[SamplerStep], second: Callable[[Floats], Iterator[SamplerStep]], ahead: int
) -> Iterator[tuple[SamplerStep, int]]:
    """Yield the steps of two passes, numbered consecutively, with the number of the pass, 0 or 1.

    second: starts the second pass from the first one's latent. ahead: its approximate number of steps.
    """
    step = None
    for step in first:
        yield replace(step, steps=step.steps + ahead), 0
    if step is not None:
        done = step.index + 1
        for further in second(step.x):
            yield replace(further, index=done + further.index, steps=done + further.steps), 1


def check_latents(first: Model, second: Model, upscaler: str) -> None:
    """Raise InvalidRequest if latents would be upscaled for a second model with other latents."""
    ours, theirs = first.family, second.family
    if upscaler in LATENT_UPSCALERS and ours.latents != theirs.latents:
        raise InvalidRequest(
            f"the model of the second pass, '{second.checkpoint.name}', is {theirs.label}, that of the first"
            f" {ours.label}: their latents differ; use an upscaler for pictures, such as Lanczos"
        )


def upscaled_canvas(
    networks: Networks, second: Networks, first: Settled, request: Settled, latent: Floats
) -> Canvas:
    """Upscale the latent (B, C, h, w) of the first pass and return the canvas of the second.

    networks, second: the networks of the two passes. first, request: their requests.
    """
    assert request.hires is not None
    factor, name = networks.autoencoder_config.factor, request.hires.upscaler
    model = second.auxiliary(Path(name), upscaler_on) if is_model_file(name) else None
    name = find_upscaler(name) if model is None else name
    size, own = (request.width, request.height), (first.width, first.height)
    box = None if request.hires.size is None else center_crop(own, size, factor)
    tiling = networks.tiling
    if name in LATENT_UPSCALERS:
        if box is not None:
            left, top, right, bottom = (side / factor for side in box)
            box = (left, top, right, bottom)
        start = upscaled_latent(latent, size[0] // factor, size[1] // factor, name, box=box, tiling=tiling)
    else:
        images = decoded_images(networks, latent)
        sharp = [
            upscaled(image, *size, name, box=box, tiling=tiling)
            if model is None
            else resize_with(model, image, *size, box=box, tiling=tiling)
            for image in images
        ]
        start = second.encode(np.stack([from_image(image) for image in sharp]))
    return replace(blank_canvas(second, *size), latent=start)


def center_crop(own: tuple[int, int], size: tuple[int, int], factor: int) -> Box:
    """Return the part of the first picture that the second pass shows if its aspect ratio differs, px.

    own, size: width and height of the first and of the second pass, px. As in A1111, the first picture is
    scaled to cover the second, and whole latent pixels are cropped, an odd one at the right or the bottom.
    """
    (width, height), (wide, high) = own, size
    if width * high < wide * height:
        covering = wide, wide * height // width
    else:
        covering = high * width // height, high
    latent = [side // factor for side in covering]
    cut = [(side - target) // factor for side, target in zip(covering, size, strict=True)]
    scale = [side / length for side, length in zip(own, latent, strict=True)]
    left, top = (each // 2 * by for each, by in zip(cut, scale, strict=True))
    return left, top, left + wide // factor * scale[0], top + high // factor * scale[1]
