"""Generates pictures from a settled request, from the first noise to the result."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pochade.diffusion.samplers import find_sampler
from pochade.diffusion.samplers.step import SamplerStep
from pochade.errors import InvalidRequest
from pochade.families.family import Conditioning
from pochade.generation.canvas import Canvas, blank_canvas, canvas_over
from pochade.generation.conditioning import PromptPlan, condition_steps, prompt_size
from pochade.generation.decoding import check_finite, decoded_images, rough_images, small_images
from pochade.generation.denoise_loop import (
    Pass,
    check_noise,
    denoise,
    latent_shape,
    levels_of,
    single_requests,
)
from pochade.generation.infotext import ModelInfo, infotext
from pochade.generation.prompt_plan import Prompts, StepPrompts
from pochade.generation.result import Progress, PromptSize, Result
from pochade.generation.settle import GenerationContext, Prepared, prompts_of_passes, refiner_path
from pochade.images.marks import EDITED, GENERATED
from pochade.loading.adapters import NOTHING, hashes, tags
from pochade.loading.model import Model
from pochade.loading.networks import Networks
from pochade.request import Settled
from pochade.speed import EXACT

if TYPE_CHECKING:
    from PIL import Image

Floats = NDArray[np.float32]


def generate(prepared: Prepared, noise: Floats | None = None) -> Iterator[Progress]:
    """Draw a settled request, yielding after each step; the last step has the result.

    A plain picture is one pass over the noise levels. ControlNets (`denoise_loop`), a second model for the
    last part (`refiner`) and a second, larger pass (`hires`) are used only if the request asks for them.

    noise: the starting noise (B, C, h, w), unit normal, instead of the seeds' noise.
    """
    if prepared.request.batch_size > 1 and steps_differ(prepared):
        yield from draw_separately(prepared, noise)
        return
    context, request, prompts = prepared.context, prepared.request, prepared.prompts
    model, later, release = context.model, context.last, context.release
    networks = networks_for(context, request)
    last_networks = networks if later is context else networks_for(later, request)
    for each in (networks, last_networks):
        each.graphs.begin_part()

    # The start of the pass, and the encoded prompts.
    canvas = canvas_of(model, networks, request)
    release(networks.autoencoder, networks.wide_autoencoder)
    prompt_plan, later_plan = prompt_plans(model, request, later.model, prompts)
    for each in (networks, last_networks):
        release(*each.text_encoders)
    refiner = switch = None
    refiner_file = refiner_path(request, context.roots)
    if refiner_file is not None:
        from pochade.generation.refiner import refiner_switch
        from pochade.loading.auxiliary import open_refiner

        refiner = open_refiner(later.model.networks, later.model.checkpoint, refiner_file)
        all_steps = [*prompt_plan.steps, *later_plan.steps]
        switch = refiner_switch(refiner, request, all_steps, tiling=request.tiling)

    # The steps of one pass, or of two.
    first = Pass(
        request=request,
        canvas=canvas,
        prompt_plan=prompt_plan,
        levels=levels_of(model.schedule, networks, prepared.sampler, request, canvas),
        controls=request.controls,
        noise=noise,
        refiner=switch,
    )
    steps: Iterator[tuple[SamplerStep, int]]
    decoded = latent_shape(networks, request)
    if request.hires is None:
        only = denoise(networks, model.schedule, model.parametrization, prepared.sampler, first)
        steps = ((step, 0) for step in only)
    else:
        from pochade.generation.hires import two_passes

        steps, decoded = two_passes(prepared, networks, last_networks, first, later_plan)
    size = prompt_size({**prompt_plan.conditionings, **later_plan.conditionings})

    def result(by: Networks, latent: Floats) -> Result:
        release(by.unet)
        check_finite(latent, "the UNet", by.unet.engine.precision)
        images = [canvas.finish(image) for image in decoded_images(by, latent)]
        # The parameters text only says "fast" if something was really skipped.
        drawn = request if first.left_out else replace(request, speed=EXACT)
        made = result_of(images, single_requests(drawn), model_info_of(prepared, refiner), size)
        release(by.autoencoder, by.wide_autoencoder)
        return made

    drawn_by = networks, last_networks
    previews = [
        rough_images if context.low_memory else partial(small_images, each.model.networks)
        for each in (context, later)
    ]
    with ThreadPoolExecutor(1) as background:
        # The decoder is compiled while the first step compiles the UNet, so that its errors show early.
        ready = None if context.low_memory else background.submit(last_networks.prepare_decode, decoded)
        for step, number in steps:
            if ready is not None:
                ready.result()
            by = drawn_by[number]
            if step.index == 0:  # report an overflow now, not after all steps
                check_finite(step.x, "the UNet", by.unet.engine.precision)
            now, preview = partial(result, by), previews[number]
            end = now(step.x) if step.index == step.steps - 1 else None
            yield Progress(step.index + 1, step.steps, step.denoised, preview, now, end, size)


def steps_differ(prepared: Prepared) -> bool:
    """Whether the pictures of a batch need separate steps, in the first pass or in the second."""
    hires = prepared.request.hires
    second = None if hires is None else hires.sampler
    return prepared.sampler.alone or (second is not None and find_sampler(second).alone)


def draw_separately(prepared: Prepared, noise: Floats | None) -> Iterator[Progress]:
    """Draw the pictures of a batch one after another, as if each was requested alone.

    `Progress.denoised` is that of the current picture.
    """
    request = prepared.request
    check_noise(noise, (request.batch_size, *latent_shape(prepared.context.model.networks, request)))
    results: list[Result] = []
    before = 0
    for i, alone in enumerate(single_requests(request)):
        own = None if noise is None else noise[i : i + 1]
        for progress in generate(replace(prepared, request=alone), own):
            if progress.result is not None:
                results.append(progress.result)
            yield replace(
                progress,
                step=before + progress.step,
                steps=before + progress.steps * (request.batch_size - i),
                result=join_results(results) if len(results) == request.batch_size else None,
            )
        before += progress.step


def networks_for(context: GenerationContext, request: Settled) -> Networks:
    """Return the model's networks with the tiling of the request and the decoding tiles of the plan."""
    networks = replace(context.model.networks, tiling=request.tiling)
    if context.plan is None or context.plan.tile is None:
        return networks
    return replace(networks, untiled_pixels=context.plan.tile**2, tile=context.plan.tile)


def canvas_of(model: Model, networks: Networks, request: Settled) -> Canvas:
    """Return the canvas of the first pass. Raises InvalidRequest if a model needs a picture and has none."""
    if request.source is not None:
        return canvas_over(networks, request.source, request.width, request.height, request.framing)
    if networks.traits.needs_picture:
        raise InvalidRequest(f"'{model.checkpoint.name}' is {networks.traits.needs_picture}")
    return blank_canvas(networks, request.width, request.height)


def prompt_plans(
    model: Model, request: Settled, later: Model | None = None, prompts: Prompts | None = None
) -> tuple[PromptPlan, PromptPlan]:
    """Encode the prompts of the first pass and of the second, if there is one.

    later: the model of the second pass; None means the same. prompts: as in `prompts_of_passes`.
    """
    later = model if later is None else later
    first, second = prompts_of_passes(model.networks, request, later.networks, prompts)
    if later is model:
        conditionings = _conditioned(model, [*first, *second], request)
        return PromptPlan(first, conditionings), PromptPlan(second, conditionings)
    return PromptPlan(first, _conditioned(model, first, request)), PromptPlan(
        second, _conditioned(later, second, request)
    )


def _conditioned(
    model: Model, steps: Sequence[StepPrompts], request: Settled
) -> Mapping[StepPrompts, Sequence[Conditioning]]:
    return condition_steps(
        model.networks,
        model.tokenizers,
        steps,
        request.clip_skip,
        request.emphasis,
        zeros_for_no_text=model.family.no_text(model.checkpoint),
    )


def name_of_vae(path: Path) -> str:
    """Return the name of a given autoencoder for the text: the file's, as in A1111, or the folder's."""
    return path.parent.name if path.name == "vae" else path.name


def model_info_of(prepared: Prepared, refiner: Model | None) -> ModelInfo:
    """Return the entries about models for the parameters text."""
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
        vae=None if context.vae is None else name_of_vae(context.vae),
        vae_hash=None if context.vae is None else context.model.vae_hash,
        **added,
    )


def result_of(
    images: "list[Image.Image]", requests: Sequence[Settled], model_info: ModelInfo, prompt_size: PromptSize
) -> Result:
    """Build a result. requests: one for each picture, with its own seeds."""
    texts = [infotext(request, model_info) for request in requests]
    mark = GENERATED if requests[0].source is None else EDITED
    return Result(images, [request.seed for request in requests], texts, prompt_size, mark)


def join_results(results: Sequence[Result]) -> Result:
    """Join results of the same request into one."""
    return Result(
        [image for result in results for image in result.images],
        [seed for result in results for seed in result.seeds],
        [text for result in results for text in result.infotexts],
        results[0].prompt_size,
        results[0].mark,
    )
