"""A whole drawing: canvas, words, one pass or two, and at the end the pictures."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pochade.diffusion.samplers import Sampler, find_sampler
from pochade.diffusion.samplers.step import Step
from pochade.errors import InvalidRequest
from pochade.families.family import Conditioning
from pochade.pipeline.drawing import hires
from pochade.pipeline.drawing.canvas import Canvas, blank, over
from pochade.pipeline.drawing.conditioning import Told, condition_wordings, prompt_size
from pochade.pipeline.drawing.one_pass import Pass, check_noise, denoise, latent_shape, levels_of, pictures
from pochade.pipeline.drawing.passes import controls_of, second_request
from pochade.pipeline.drawing.pictures import check_finite, decoded_images, rough_images
from pochade.pipeline.drawing.refining import refining
from pochade.pipeline.drawing.settling import prompts_of, refiner_path, wordings_of
from pochade.pipeline.drawing.wording import Wording
from pochade.pipeline.loading.adapting import Additions, hashes, tags
from pochade.pipeline.loading.beside import open_refiner
from pochade.pipeline.loading.budget import Plan
from pochade.pipeline.loading.memory import release
from pochade.pipeline.loading.model import Model
from pochade.pipeline.loading.network import Network
from pochade.pipeline.loading.networks import Networks
from pochade.pipeline.results.infotext import Maker
from pochade.pipeline.results.making import joined, result_of
from pochade.pipeline.results.result import Progress, Result
from pochade.request import Settled
from pochade.speed import EXACT

if TYPE_CHECKING:
    from PIL import Image

Floats = NDArray[np.float32]

PREVIEW_SIDE = 16
"""Latent pixels along the longer side of a preview: a decode of 128 pixels costs a sixteenth of 512."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Means:
    """What is drawn with, whatever is drawn.

    additions: those that the model's networks have in them. roots: folders in which other models are looked
    for by name. plan: how to keep within a memory budget; None if there is none. second: what the second
    pass is drawn with, if that is another model or has other additions.
    """

    model: Model
    additions: Additions
    roots: Sequence[Path]
    plan: Plan | None = None
    second: "Means | None" = None

    @property
    def sparing(self) -> bool:
        """Whether each network is let go before the next is loaded."""
        return self.plan is not None and self.plan.one_by_one

    def let_go(self, *done: Network | None) -> None:
        """Of networks that are not needed soon, if memory is short."""
        if self.sparing:
            for each in done:
                if each is not None:
                    each.let_go()
            release()


def draw(means: Means, request: Settled, sampler: Sampler, noise: Floats | None) -> Iterator[Progress]:
    """The steps of a drawing; the last one brings the result.

    noise: the starting noise (B, C, h, w), unit normal, in place of the seeds'.
    """
    later, own = means.second or means, second_request(request)
    second_sampler = sampler if own.sampler == request.sampler else find_sampler(own.sampler)
    if (sampler.alone or second_sampler.alone) and request.batch_size > 1:
        yield from one_by_one(means, request, sampler, noise)
        return
    model, let_go = means.model, means.let_go
    networks, larger_networks = networks_for(means, request), networks_for(later, request)
    for each in (networks, larger_networks):
        each.graphs.begin_part()
    canvas = canvas_of(model, networks, request)
    let_go(networks.autoencoder, networks.wide_autoencoder)
    if request.hires is not None:
        hires.check_latents(model, later.model, request.hires.upscaler)
    told, told_later = told_of(model, request, later.model)
    for each in (networks, larger_networks):
        let_go(*each.text_encoders)
    second_model = refiner_of(later, request)
    last_part = None
    if second_model is not None:
        wanted = [*told.steps, *told_later.steps]
        last_part = refining(second_model, own, wanted, tiling=request.tiling)
    first = Pass(
        request=request,
        canvas=canvas,
        told=told,
        levels=levels_of(model.schedule, networks, sampler, request, canvas),
        controls=controls_of(request, "first"),
        noise=noise,
        refining=last_part if request.hires is None else None,
    )
    second = hires.second_pass(first, told_later, later.model, larger_networks, last_part)
    decoded = latent_shape(larger_networks, (second or first).request)
    first_steps = denoise(networks, model.schedule, model.parametrization, sampler, first)
    steps: Iterator[tuple[Step, int]] = ((step, 0) for step in first_steps)
    if second is not None:

        def enlarged_pass(latent: Floats) -> Iterator[Step]:
            check_finite(latent, "the UNet", networks.unet.engine.precision)
            let_go(networks.unet)
            larger_networks.graphs.begin_part()  # the UNet in the first size may go, the decoder is wanted
            if not means.sparing:
                larger_networks.prepare_decode(decoded)
            larger = hires.enlarged(networks, larger_networks, request, second.request, latent)
            for each in (networks, larger_networks):
                let_go(each.autoencoder, each.wide_autoencoder)
            drawing = replace(second, canvas=larger)
            by = later.model
            yield from denoise(larger_networks, by.schedule, by.parametrization, second_sampler, drawing)

        steps = hires.both(first_steps, enlarged_pass, len(second.levels) - 1)
    size = prompt_size({**told.conditionings, **told_later.conditionings})

    def result(by: Networks, latent: Floats) -> Result:
        let_go(by.unet)
        check_finite(latent, "the UNet", by.unet.engine.precision)
        images = [canvas.finish(image) for image in decoded_images(by, latent)]
        # A text that says "fast" of a picture of which everything was computed would tell of another one.
        drawn = request if first.left_out else replace(request, speed=EXACT)
        made = result_of(images, pictures(drawn), maker_of(means, request, second_model), size)
        let_go(by.autoencoder, by.wide_autoencoder)
        return made

    drawn_by = networks, larger_networks
    previews = [
        rough_images if means.sparing else partial(small_images, each.model.networks)
        for each in (means, later)
    ]
    with ThreadPoolExecutor(1) as beside:
        # The decoder is compiled while the first step compiles the UNet; a fault in it shows then.
        ready = None if means.sparing else beside.submit(larger_networks.prepare_decode, decoded)
        for step, number in steps:
            if ready is not None:
                ready.result()
            by = drawn_by[number]
            if step.index == 0:  # an overflow is said now, not after all steps
                check_finite(step.x, "the UNet", by.unet.engine.precision)
            now, preview = partial(result, by), previews[number]
            end = now(step.x) if step.index == step.steps - 1 else None
            yield Progress(step.index + 1, step.steps, step.denoised, preview, now, end, size)


def one_by_one(means: Means, request: Settled, sampler: Sampler, noise: Floats | None) -> Iterator[Progress]:
    """A batch in which each picture takes steps of its own: one after another, as if asked for alone.

    `Progress.denoised` is then that of the picture which is being drawn.
    """
    check_noise(noise, (request.batch_size, *latent_shape(means.model.networks, request)))
    results: list[Result] = []
    before = 0
    for i, alone in enumerate(pictures(request)):
        for progress in draw(means, alone, sampler, None if noise is None else noise[i : i + 1]):
            if progress.result is not None:
                results.append(progress.result)
            yield replace(
                progress,
                step=before + progress.step,
                steps=before + progress.steps * (request.batch_size - i),
                result=joined(results) if len(results) == request.batch_size else None,
            )
        before += progress.step


def networks_for(means: Means, request: Settled) -> Networks:
    """The model's networks, set to tile and to decode in parts as request and plan say."""
    networks = replace(means.model.networks, tiling=request.tiling)
    if means.plan is None or means.plan.tile is None:
        return networks
    return replace(networks, whole=means.plan.tile**2, tile=means.plan.tile)


def canvas_of(model: Model, networks: Networks, request: Settled) -> Canvas:
    """Where the drawing begins. Raises InvalidRequest for a model that needs a picture and gets none."""
    if request.source is not None:
        return over(networks, request.source, request.width, request.height, request.framing)
    if networks.traits.needs_picture:
        raise InvalidRequest(f"'{model.checkpoint.name}' is {networks.traits.needs_picture}")
    return blank(networks, request.width, request.height)


def told_of(model: Model, request: Settled, later: Model | None = None) -> tuple[Told, Told]:
    """What the UNet is told in the first pass and in the second, if there is one.

    later: what the second pass is drawn with; None: the same model.
    """
    later = model if later is None else later
    first, second = wordings_of(model.networks, request, later.networks)
    if later is model:
        told = _conditioned(model, [*first, *second], request)
        return Told(first, told), Told(second, told)
    return Told(first, _conditioned(model, first, request)), Told(
        second, _conditioned(later, second, request)
    )


def _conditioned(
    model: Model, wordings: Sequence[Wording], request: Settled
) -> Mapping[Wording, Sequence[Conditioning]]:
    return condition_wordings(
        model.networks,
        model.tokenizers,
        wordings,
        request.clip_skip,
        request.emphasis,
        zeros_for_no_text=model.family.no_text(model.checkpoint),
    )


def refiner_of(means: Means, request: Settled) -> Model | None:
    """The model that takes over, if one is asked for. Raises InvalidCheckpoint and InvalidRequest."""
    path = refiner_path(request, means.roots)
    return None if path is None else open_refiner(means.model.networks, means.model.checkpoint, path)


def maker_of(means: Means, request: Settled, refiner: Model | None) -> Maker:
    """What the pictures' texts say of the models that drew them."""
    later, own = means.second or means, second_request(request)
    both = means.additions if later is means else means.additions + later.additions
    other = request.hires is not None and request.hires.model is not None
    return Maker(
        model=means.model.checkpoint.name,
        hash=means.model.hash,
        additions=hashes(both, *prompts_of(request), *prompts_of(own)),
        tags=tags(means.additions),
        refiner=None if refiner is None else refiner.title,
        hires=later.model.title if other else None,
        hires_tags=tags(later.additions),
    )


def small_images(networks: Networks, latent: Floats) -> "list[Image.Image]":
    """Decode every n-th latent pixel: a small picture for any family, without a table of colours."""
    step = -(-max(latent.shape[2:]) // PREVIEW_SIDE)
    return decoded_images(networks, np.ascontiguousarray(latent[:, :, ::step, ::step], np.float32))
