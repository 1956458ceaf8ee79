"""The second pass of a drawing, on a larger picture."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pochade.diffusion.samplers import find_sampler
from pochade.diffusion.samplers.step import SamplerStep
from pochade.errors import InvalidRequest
from pochade.generation.canvas import Canvas, blank
from pochade.generation.conditioning import PromptPlan
from pochade.generation.decoding import check_finite, decoded_images, from_image
from pochade.generation.denoise_loop import Pass, all_levels, denoise, latent_shape
from pochade.generation.pass_settings import controls_of, second_request
from pochade.generation.settle import Prepared
from pochade.generation.upscale import resized_by
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
from pochade.request_options import Hires

if TYPE_CHECKING:
    from pochade.generation.refiner import RefinerSwitch

Floats = NDArray[np.float32]


def in_two_passes(
    prepared: Prepared, networks: Networks, larger_networks: Networks, only: Pass, told: PromptPlan
) -> tuple[Iterator[tuple[SamplerStep, int]], tuple[int, int, int]]:
    """The steps of two passes, each with the number of its pass, and the shape (C, h, w) of the last latent.

    networks, larger_networks: of the two passes, as the request sets them. only: what one pass alone would
    be; a second model does its part in the second of two. told: in the second.

    Raises InvalidRequest for what cannot follow each other, before anything is drawn.
    """
    context, request = prepared.context, prepared.request
    model, later = context.model, context.last
    assert request.hires is not None
    check_latents(model, later.model, request.hires.upscaler)
    first = replace(only, refining=None, controls=controls_of(request, "first"))
    second = second_pass(first, told, later.model, larger_networks, only.refining)
    assert second is not None
    decoded = latent_shape(larger_networks, second.request)
    second_sampler = find_sampler(second.request.sampler)

    def enlarged_pass(latent: Floats) -> Iterator[SamplerStep]:
        check_finite(latent, "the UNet", networks.unet.engine.precision)
        context.release(networks.unet)
        larger_networks.graphs.begin_part()  # the UNet in the first size may go, the decoder is wanted
        if not context.sparing:
            larger_networks.prepare_decode(decoded)
        larger = enlarged(networks, larger_networks, request, second.request, latent)
        for each in (networks, larger_networks):
            context.release(each.autoencoder, each.wide_autoencoder)
        drawing = replace(second, canvas=larger)
        by = later.model
        yield from denoise(larger_networks, by.schedule, by.parametrization, second_sampler, drawing)

    steps = denoise(networks, model.schedule, model.parametrization, prepared.sampler, first)
    return both(steps, enlarged_pass, len(second.levels) - 1), decoded


def second_pass(
    first: Pass,
    told: PromptPlan,
    model: Model,
    networks: Networks,
    refining: "RefinerSwitch | None" = None,
) -> Pass | None:
    """What follows the first pass, if its request says so. Its canvas is empty yet. told, refining: in it.

    model, networks: that it is drawn with, as the request sets them. It does exactly as many steps as were
    asked for, from the level of its strength, as in A1111.

    Raises InvalidRequest for ControlNets of another family, before the first pass is drawn.
    """
    asked = first.request.hires
    if asked is None:
        return None
    if is_model_file(asked.upscaler):
        networks.beside(Path(asked.upscaler), upscaler_on)
    else:
        find_upscaler(asked.upscaler)
    request = second_request(first.request)
    width, height = size_of(first.request, asked, networks.traits.multiple)
    request = replace(request, width=width, height=height)
    controls = controls_of(request, "second")
    if controls:
        from pochade.generation.controlnet import check_controls

        check_controls(networks, controls)
    schedule, sampler = model.schedule, find_sampler(request.sampler)
    count = min(schedule.steps, levels_from_noise(request.steps, asked.denoising_strength))
    first_one = max(0, count - request.steps)
    levels = all_levels(schedule, networks, sampler, request.schedule, count)[first_one:]
    return replace(
        first,
        request=request,
        told=told,
        canvas=Canvas(),
        levels=levels,
        controls=controls,
        noise=None,
        refining=refining,
    )


def levels_from_noise(steps: int, strength: float) -> int:
    """How many levels a whole drawing would have of which a second pass does the last `steps`, as A1111
    counts them: 28 for 20 steps at 0.7."""
    return int(steps / min(strength, 0.999))


def both(
    first: Iterator[SamplerStep], second: Callable[[Floats], Iterator[SamplerStep]], ahead: int
) -> Iterator[tuple[SamplerStep, int]]:
    """The steps of two passes, counted through, and with each the number of its pass, 0 or 1.

    second: from the first one's latent. ahead: how many steps it will take, or about as many.
    """
    step = None
    for step in first:
        yield replace(step, steps=step.steps + ahead), 0
    if step is not None:
        done = step.index + 1
        for further in second(step.x):
            yield replace(further, index=done + further.index, steps=done + further.steps), 1


def size_of(request: Settled, hires: Hires, factor: int) -> tuple[int, int]:
    """Width and height of the second pass, px, of whole latent pixels; fractions are cut, as in A1111."""
    width, height = hires.size or (int(request.width * hires.scale), int(request.height * hires.scale))
    return max(factor, width // factor * factor), max(factor, height // factor * factor)


def check_latents(first: Model, second: Model, upscaler: str) -> None:
    """Raises InvalidRequest if latents of the first pass would be enlarged for a model of other latents."""
    ours, theirs = first.family, second.family
    if upscaler in LATENT_UPSCALERS and ours.latents != theirs.latents:
        raise InvalidRequest(
            f"the model of the second pass, '{second.checkpoint.name}', is {theirs.label}, that of the first"
            f" {ours.label}: their latents mean different things; take an upscaler of pictures, such as"
            " Lanczos"
        )


def enlarged(
    networks: Networks, second: Networks, first: Settled, request: Settled, latent: Floats
) -> Canvas:
    """What the second pass draws over: the first one's latent (B, C, h, w), larger.

    networks, second: of the two passes. first, request: of the two as well.
    """
    assert request.hires is not None
    factor, name = networks.autoencoder_config.factor, request.hires.upscaler
    model = second.beside(Path(name), upscaler_on) if is_model_file(name) else None
    name = find_upscaler(name) if model is None else name
    size, own = (request.width, request.height), (first.width, first.height)
    box = None if request.hires.size is None else middle(own, size, factor)
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
            else resized_by(model, image, *size, box=box, tiling=tiling)
            for image in images
        ]
        start = second.encode(np.stack([from_image(image) for image in sharp]))
    return replace(blank(second, *size), latent=start)


def middle(own: tuple[int, int], size: tuple[int, int], factor: int) -> Box:
    """The part of the first picture that the second one shows, if it has another shape, px: as much as fits,
    from the middle, as in A1111.

    own, size: width and height of the first and of the second, px. There the first is made large enough to
    cover the second, and whole latent pixels are cut off, the odd one at the right or at the bottom.
    """
    (width, height), (wide, high) = own, size
    if width * high < wide * height:
        covering = wide, wide * height // width
    else:
        covering = high * width // height, high
    latent = [side // factor for side in covering]
    cut = [(side - asked) // factor for side, asked in zip(covering, size, strict=True)]
    scale = [side / length for side, length in zip(own, latent, strict=True)]
    left, top = (each // 2 * by for each, by in zip(cut, scale, strict=True))
    return left, top, left + wide // factor * scale[0], top + high // factor * scale[1]
