"""One pass over the noise levels: the denoise loop, for every way of drawing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pochade.diffusion.brownian import batch_path
from pochade.diffusion.noise import batch_noise, noise_stream, set_in, slerp
from pochade.diffusion.parametrization import Parametrization, denoiser
from pochade.diffusion.samplers import Sampler
from pochade.diffusion.samplers.step import SamplerStep
from pochade.diffusion.schedule import NoiseSchedule, sigmas
from pochade.errors import InvalidRequest
from pochade.generation.canvas import Canvas
from pochade.generation.conditioning import PromptPlan
from pochade.generation.guided_unet import FeatureCache, holding, in_steps, predictor
from pochade.generation.prompt_plan import Wording
from pochade.loading.networks import Networks
from pochade.prompts.composition import PromptPart
from pochade.request import Settled
from pochade.request_options import Control
from pochade.speed import EXACT, FULL_STEP, StepWork, find_speed, progress_of

if TYPE_CHECKING:
    from pochade.generation.controlnet import ControlNetPass
    from pochade.generation.prompt_weights import Weight
    from pochade.generation.refiner import RefinerSwitch

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class Pass:
    """One pass over noise levels.

    request: settled. canvas: where it begins. told: step by step; a pass over a picture, whose levels are
    fewer than the request's steps, begins at the first all the same, as in A1111. levels: decreasing, and 0
    at the end. controls: that steer it. noise: (B, C, h, w), in place of the seeds'. refining: a second
    model, for the last part. left_out: what was not computed so far, for speed; a second pass shares it with
    the first.
    """

    request: Settled
    canvas: Canvas
    told: PromptPlan
    levels: Sequence[float]
    controls: tuple[Control, ...] = ()
    noise: Floats | None = None
    refining: "RefinerSwitch | None" = None
    left_out: set[str] = field(default_factory=set)


def denoise(
    networks: Networks,
    schedule: NoiseSchedule,
    parametrization: Parametrization,
    sampler: Sampler,
    drawing: Pass,
) -> Iterator[SamplerStep]:
    """The steps of a pass; the last one's `x` is the finished latent (B, C, h, w).

    The loop's own arrays stay where the UNet computes; what the steps hold are copies on the host.
    """
    engine = networks.unet.engine
    request, canvas = drawing.request, drawing.canvas.placed(engine.place)
    shape = latent_shape(networks, request)
    each = pictures(request)
    draw_noise = batch_noise([one.seed for one in each], shape, request.rng)
    start = draw_noise()  # drawn even if it is not used: later draws are the same then
    if drawing.noise is not None:
        check_noise(drawing.noise, (len(each), *shape))
        start = np.ascontiguousarray(drawing.noise, np.float32)
    elif request.variation is not None:
        factor = networks.autoencoder_config.factor
        start = np.stack([_varied(one, noise, factor) for one, noise in zip(each, start, strict=True)])
    told = drawing.told.steps[: len(drawing.levels) - 1]
    steerings = _steerings(networks, drawing) if drawing.controls else []
    memory = FeatureCache(left_out=drawing.left_out)
    own = {name: getattr(request, name) for name in sampler.options}
    options: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
    works = [FULL_STEP] * len(told)
    if request.speed != EXACT:
        places = [progress_of(level) for level in drawing.levels[: len(told)]]
        works = find_speed(request.speed).plan(places, stochastic=sampler.adds_noise(request.eta))
    plan: list[tuple[Wording, tuple[ControlNetPass, ...], StepWork, bool]] = []
    for step, (wording, work) in enumerate(zip(told, works, strict=True)):
        acting = tuple(each for each in steerings if each.acts(step, len(told)))
        refined = drawing.refining is not None and drawing.refining.acts(drawing.levels[step], schedule)
        # Nothing that was found with other words, with a ControlNet or by another model is held.
        if acting or refined or (plan and plan[-1][:2] != (wording, acting)):
            work = replace(work, held=False)
        plan.append((wording, acting, work, refined))
    holds = any(work.held for _, _, work, _ in plan)
    denoisers = {}
    for wording, acting, work, refined in dict.fromkeys(plan):
        weights = _weights(wording.parts, *shape[1:])
        if refined and drawing.refining is not None:
            clean = drawing.refining.denoiser(request, wording, weights, canvas.extra)
        else:
            given = drawing.told.conditionings[wording]
            predict = predictor(networks, request, given, weights, canvas.extra, acting, work, memory)
            clean = denoiser(predict, parametrization, schedule)
        denoisers[wording, acting, work, refined] = holding(clean, memory, work.held) if holds else clean
    clean = canvas.keeping(in_steps(drawing.levels, [denoisers[each] for each in plan]))
    if sampler.brownian:
        path = batch_path([one.seed for one in each], shape)
        options["path"] = lambda sigma, after, eta: engine.place(path(sigma, after, eta))
    if sampler.needs_schedule:
        options["schedule"] = schedule
    x = canvas.start(engine.place(start), float(drawing.levels[0]), networks.family.starting_scale)
    steps = sampler.function(clean, x, drawing.levels, lambda: engine.place(draw_noise()), **options)
    return (replace(step, x=engine.fetch(step.x), denoised=engine.fetch(step.denoised)) for step in steps)


def check_noise(noise: Floats | None, shape: tuple[int, ...]) -> None:
    """Raises InvalidRequest for given noise of another shape."""
    if noise is not None and noise.shape != shape:
        raise InvalidRequest(f"noise has shape {noise.shape}; {shape} is needed")


def _weights(parts: Sequence[PromptPart], rows: int, columns: int) -> "Sequence[Weight]":
    """How much each of the prompts that are drawn together counts, and where."""
    if all(part.region is None for part in parts):
        return [part.weight for part in parts]
    from pochade.generation.prompt_weights import weights_of

    return weights_of(parts, rows, columns)


def _steerings(networks: Networks, drawing: Pass) -> "list[ControlNetPass]":
    from pochade.generation.controlnet import cut_out, laid_over, steering

    request = drawing.request
    controls = drawing.controls
    if request.source is not None and drawing.canvas.box is not None:
        controls = tuple(cut_out(controls, request.source.image.size, drawing.canvas.box))
    elif drawing.canvas.filled is not None:
        drawn = request.width, request.height
        controls = tuple(laid_over(controls, drawing.canvas.filled, drawn, tiling=request.tiling))
    return steering(networks, controls, request.width, request.height)


def pictures(request: Settled) -> list[Settled]:
    """The request of each picture of a batch, which draws it alone: its seed, and that of its variation."""
    seed, variation = request.seed, request.variation
    numbers = range(request.batch_size)
    if variation is None or variation.strength == 0:
        return [replace(request, batch_size=1, seed=seed + i) for i in numbers]
    seconds = [replace(variation, seed=variation.seed + i) for i in numbers]
    return [replace(request, batch_size=1, variation=second) for second in seconds]


def latent_shape(networks: Networks, request: Settled) -> tuple[int, int, int]:
    """(C, h, w)."""
    config = networks.autoencoder_config
    return config.latent_channels, request.height // config.factor, request.width // config.factor


def levels_of(
    schedule: NoiseSchedule, networks: Networks, sampler: Sampler, request: Settled, canvas: Canvas
) -> list[float]:
    """The noise levels of a drawing: all, or over a picture the last ones, as many as its strength says."""
    levels = all_levels(schedule, networks, sampler, request.schedule, request.steps)
    return levels[canvas.first_step(request.steps) :]


def all_levels(
    schedule: NoiseSchedule, networks: Networks, sampler: Sampler, name: str, steps: int
) -> list[float]:
    """What a schedule's name means for this model and this sampler; see `schedule.sigmas`."""
    return sigmas(
        schedule,
        name,
        steps,
        automatic=sampler.schedule,
        discard_penultimate=sampler.discard_penultimate,
        own=networks.family.levels,
    )


def _varied(request: Settled, whole: Floats, factor: int) -> Floats:
    """The starting noise of one picture (C, h, w) with that of a second seed, or of another size, in it."""
    variation = request.variation
    assert variation is not None
    shape: tuple[int, ...] = whole.shape
    if variation.size is not None:
        shape = shape[0], max(1, variation.size[1] // factor), max(1, variation.size[0] // factor)
    noise = noise_stream(request.seed, request.rng)(shape)
    if variation.strength > 0:
        second = noise_stream(variation.seed, request.rng)(shape)
        noise = slerp(noise, second, variation.strength)
    return set_in(noise, whole)
