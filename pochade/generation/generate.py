"""A generation from the first noise to the finished pictures."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pochade.diffusion.samplers import find_sampler
from pochade.diffusion.samplers.step import SamplerStep
from pochade.errors import InvalidRequest
from pochade.families.family import Conditioning
from pochade.generation.canvas import Canvas, blank, over
from pochade.generation.conditioning import PromptPlan, condition_wordings, prompt_size
from pochade.generation.decoding import check_finite, decoded_images, rough_images, small_images
from pochade.generation.denoise_loop import Pass, check_noise, denoise, latent_shape, levels_of, pictures
from pochade.generation.infotext import ModelInfo
from pochade.generation.prompt_plan import Prompts, Wording
from pochade.generation.result import Progress, Result, joined, result_of
from pochade.generation.settle import GenerationContext, Prepared, refiner_path, wordings_of
from pochade.loading.adapters import NOTHING, hashes, tags
from pochade.loading.model import Model
from pochade.loading.networks import Networks
from pochade.request import Settled
from pochade.speed import EXACT

Floats = NDArray[np.float32]


def generate(prepared: Prepared, noise: Floats | None = None) -> Iterator[Progress]:
    """Draw a settled request, step by step; the last step brings the result.

    A plain picture is one pass over the noise levels. ControlNets steer it (`one_pass.denoise`), a second
    model does the last part of it (`refining`), and a larger pass follows it (`hires`), where the request
    asks for them and nowhere else.

    noise: the starting noise (B, C, h, w), unit normal, in place of the seeds'.
    """
    if prepared.request.batch_size > 1 and steps_differ(prepared):
        yield from one_by_one(prepared, noise)
        return
    context, request, prompts = prepared.context, prepared.request, prepared.prompts
    model, later, release = context.model, context.last, context.release
    networks = networks_for(context, request)
    last_networks = networks if later is context else networks_for(later, request)
    for each in (networks, last_networks):
        each.graphs.begin_part()

    # Where it begins, and what it is told.
    canvas = canvas_of(model, networks, request)
    release(networks.autoencoder, networks.wide_autoencoder)
    told, told_later = told_of(model, request, later.model, prompts)
    for each in (networks, last_networks):
        release(*each.text_encoders)
    refiner = last_part = None
    refiner_file = refiner_path(request, context.roots)
    if refiner_file is not None:
        from pochade.generation.refiner import refining
        from pochade.loading.auxiliary import open_refiner

        refiner = open_refiner(later.model.networks, later.model.checkpoint, refiner_file)
        wanted = [*told.steps, *told_later.steps]
        last_part = refining(refiner, request, wanted, tiling=request.tiling)

    # The steps of the pass, or of both.
    first = Pass(
        request=request,
        canvas=canvas,
        told=told,
        levels=levels_of(model.schedule, networks, prepared.sampler, request, canvas),
        controls=request.controls,
        noise=noise,
        refining=last_part,
    )
    steps: Iterator[tuple[SamplerStep, int]]
    decoded = latent_shape(networks, request)
    if request.hires is None:
        only = denoise(networks, model.schedule, model.parametrization, prepared.sampler, first)
        steps = ((step, 0) for step in only)
    else:
        from pochade.generation.hires import in_two_passes

        steps, decoded = in_two_passes(prepared, networks, last_networks, first, told_later)
    size = prompt_size({**told.conditionings, **told_later.conditionings})

    def result(by: Networks, latent: Floats) -> Result:
        release(by.unet)
        check_finite(latent, "the UNet", by.unet.engine.precision)
        images = [canvas.finish(image) for image in decoded_images(by, latent)]
        # A text that says "fast" of a picture of which everything was computed would tell of another one.
        drawn = request if first.left_out else replace(request, speed=EXACT)
        made = result_of(images, pictures(drawn), maker_of(prepared, refiner), size)
        release(by.autoencoder, by.wide_autoencoder)
        return made

    drawn_by = networks, last_networks
    previews = [
        rough_images if context.sparing else partial(small_images, each.model.networks)
        for each in (context, later)
    ]
    with ThreadPoolExecutor(1) as beside:
        # The decoder is compiled while the first step compiles the UNet; a fault in it shows then.
        ready = None if context.sparing else beside.submit(last_networks.prepare_decode, decoded)
        for step, number in steps:
            if ready is not None:
                ready.result()
            by = drawn_by[number]
            if step.index == 0:  # an overflow is said now, not after all steps
                check_finite(step.x, "the UNet", by.unet.engine.precision)
            now, preview = partial(result, by), previews[number]
            end = now(step.x) if step.index == step.steps - 1 else None
            yield Progress(step.index + 1, step.steps, step.denoised, preview, now, end, size)


def steps_differ(prepared: Prepared) -> bool:
    """Whether each picture of a batch takes steps of its own, in the first pass or in the second."""
    hires = prepared.request.hires
    second = None if hires is None else hires.sampler
    return prepared.sampler.alone or (second is not None and find_sampler(second).alone)


def one_by_one(prepared: Prepared, noise: Floats | None) -> Iterator[Progress]:
    """A batch in which each picture takes steps of its own: one after another, as if asked for alone.

    `Progress.denoised` is then that of the picture which is being drawn.
    """
    request = prepared.request
    check_noise(noise, (request.batch_size, *latent_shape(prepared.context.model.networks, request)))
    results: list[Result] = []
    before = 0
    for i, alone in enumerate(pictures(request)):
        own = None if noise is None else noise[i : i + 1]
        for progress in generate(replace(prepared, request=alone), own):
            if progress.result is not None:
                results.append(progress.result)
            yield replace(
                progress,
                step=before + progress.step,
                steps=before + progress.steps * (request.batch_size - i),
                result=joined(results) if len(results) == request.batch_size else None,
            )
        before += progress.step


def networks_for(context: GenerationContext, request: Settled) -> Networks:
    """The model's networks, set to tile and to decode in parts as request and plan say."""
    networks = replace(context.model.networks, tiling=request.tiling)
    if context.plan is None or context.plan.tile is None:
        return networks
    return replace(networks, untiled_pixels=context.plan.tile**2, tile=context.plan.tile)


def canvas_of(model: Model, networks: Networks, request: Settled) -> Canvas:
    """Where the drawing begins. Raises InvalidRequest for a model that needs a picture and gets none."""
    if request.source is not None:
        return over(networks, request.source, request.width, request.height, request.framing)
    if networks.traits.needs_picture:
        raise InvalidRequest(f"'{model.checkpoint.name}' is {networks.traits.needs_picture}")
    return blank(networks, request.width, request.height)


def told_of(
    model: Model, request: Settled, later: Model | None = None, prompts: Prompts | None = None
) -> tuple[PromptPlan, PromptPlan]:
    """What the UNet is told in the first pass and in the second, if there is one.

    later: what the second pass is drawn with; None: the same model. prompts: as in `wordings_of`.
    """
    later = model if later is None else later
    first, second = wordings_of(model.networks, request, later.networks, prompts)
    if later is model:
        told = _conditioned(model, [*first, *second], request)
        return PromptPlan(first, told), PromptPlan(second, told)
    return PromptPlan(first, _conditioned(model, first, request)), PromptPlan(
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


def maker_of(prepared: Prepared, refiner: Model | None) -> ModelInfo:
    """What the pictures' texts say of the models that drew them."""
    context, request, prompts = prepared.context, prepared.request, prepared.prompts
    later = context.last
    other = request.hires is not None and request.hires.model is not None
    added: dict[str, Any] = {}
    if context.additions != NOTHING or later.additions != NOTHING:
        both = context.additions if later is context else context.additions + later.additions
        added = {
            "additions": hashes(both, *prompts.first_pass, *prompts.second_pass),
            "tags": tags(context.additions),
            "hires_tags": tags(later.additions),
        }
    return ModelInfo(
        model=context.model.checkpoint.name,
        hash=context.model.hash,
        refiner=None if refiner is None else refiner.title,
        hires=later.model.title if other else None,
        **added,
    )
