"""The denoise loop: one pass over the noise levels."""

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
from pochade.generation.guided_unet import FeatureCache, by_step, predictor, reusing_noise
from pochade.generation.prompt_plan import StepPrompts
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

    request: settled. canvas: the start. prompt_plan: the encoded prompts; image-to-image, which has fewer
    levels than the request has steps, uses them from the first on, as in A1111. levels: decreasing to 0.
    controls: its ControlNets. noise: (B, C, h, w), instead of the seeds' noise. refiner: a second model for
    the last part. left_out: the computations that were skipped for speed; both passes share it.
    """

    request: Settled
    canvas: Canvas
    prompt_plan: PromptPlan
    levels: Sequence[float]
    controls: tuple[Control, ...] = ()
    noise: Floats | None = None
    refiner: "RefinerSwitch | None" = None
    left_out: set[str] = field(default_factory=set)


def denoise(
    networks: Networks,
    schedule: NoiseSchedule,
    parametrization: Parametrization,
    sampler: Sampler,
    drawing: Pass,
) -> Iterator[SamplerStep]:
    """Yield the steps of a pass; `x` of the last one is the finished latent (B, C, h, w).

    The loop's arrays stay on the UNet's device; the steps hold copies on the host.
    """
    engine = networks.unet.engine
    request, canvas = drawing.request, drawing.canvas.placed(engine.place)
    shape = latent_shape(networks, request)
    each = single_requests(request)
    draw_noise = batch_noise([one.seed for one in each], shape, request.rng)
    start = draw_noise()  # drawn even if it is not used, so that later draws are the same
    if drawing.noise is not None:
        check_noise(drawing.noise, (len(each), *shape))
        start = np.ascontiguousarray(drawing.noise, np.float32)
    elif request.variation is not None:
        factor = networks.autoencoder_config.factor
        start = np.stack([_varied(one, noise, factor) for one, noise in zip(each, start, strict=True)])
    prompts = drawing.prompt_plan.steps[: len(drawing.levels) - 1]
    controlnets = _controlnet_passes(networks, drawing) if drawing.controls else []
    cache = FeatureCache(left_out=drawing.left_out)
    own = {name: getattr(request, name) for name in sampler.options}
    options: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
    works = [FULL_STEP] * len(prompts)
    if request.speed != EXACT:
        positions = [progress_of(level) for level in drawing.levels[: len(prompts)]]
        works = find_speed(request.speed).plan(positions, stochastic=sampler.adds_noise(request.eta))
    plan: list[tuple[StepPrompts, tuple[ControlNetPass, ...], StepWork, bool]] = []
    for step, (step_prompts, work) in enumerate(zip(prompts, works, strict=True)):
        acting = tuple(each for each in controlnets if each.is_active(step, len(prompts)))
        refined = drawing.refiner is not None and drawing.refiner.is_active(drawing.levels[step], schedule)
        # Noise predicted for other prompts, with a ControlNet or by another model is not reused.
        if acting or refined or (plan and plan[-1][:2] != (step_prompts, acting)):
            work = replace(work, held=False)
        plan.append((step_prompts, acting, work, refined))
    holds = any(work.held for _, _, work, _ in plan)
    denoisers = {}
    for step_prompts, acting, work, refined in dict.fromkeys(plan):
        weights = _weights(step_prompts.parts, *shape[1:])
        if refined and drawing.refiner is not None:
            clean = drawing.refiner.denoiser(request, step_prompts, weights, canvas.extra)
        else:
            conditionings = drawing.prompt_plan.conditionings[step_prompts]
            predict = predictor(networks, request, conditionings, weights, canvas.extra, acting, work, cache)
            clean = denoiser(predict, parametrization, schedule)
        denoisers[step_prompts, acting, work, refined] = (
            reusing_noise(clean, cache, work.held) if holds else clean
        )
    clean = canvas.keeping_source(by_step(drawing.levels, [denoisers[each] for each in plan]))
    if sampler.brownian:
        path = batch_path([one.seed for one in each], shape)
        options["path"] = lambda sigma, after, eta: engine.place(path(sigma, after, eta))
    if sampler.needs_schedule:
        options["schedule"] = schedule
    x = canvas.start(engine.place(start), float(drawing.levels[0]), networks.family.starting_scale)
    steps = sampler.function(clean, x, drawing.levels, lambda: engine.place(draw_noise()), **options)
    return (replace(step, x=engine.fetch(step.x), denoised=engine.fetch(step.denoised)) for step in steps)


def check_noise(noise: Floats | None, shape: tuple[int, ...]) -> None:
    """Raise InvalidRequest if the given noise has another shape."""
    if noise is not None and noise.shape != shape:
        raise InvalidRequest(f"noise has shape {noise.shape}; {shape} is needed")


def _weights(parts: Sequence[PromptPart], rows: int, columns: int) -> "Sequence[Weight]":
    """The weights of composed prompts, as maps if they have regions."""
    if all(part.region is None for part in parts):
        return [part.weight for part in parts]
    from pochade.generation.prompt_weights import weights_of

    return weights_of(parts, rows, columns)


def _controlnet_passes(networks: Networks, drawing: Pass) -> "list[ControlNetPass]":
    from pochade.generation.controlnet import controlnet_passes, crop_controls, fit_controls

    request = drawing.request
    controls = drawing.controls
    if request.source is not None and drawing.canvas.box is not None:
        controls = tuple(crop_controls(controls, request.source.image.size, drawing.canvas.box))
    elif drawing.canvas.filled is not None:
        drawn = request.width, request.height
        controls = tuple(fit_controls(controls, drawing.canvas.filled, drawn, tiling=request.tiling))
    return controlnet_passes(networks, controls, request.width, request.height)


def single_requests(request: Settled) -> list[Settled]:
    """Split a batch into requests for single pictures with their own seeds and variation seeds."""
    seed, variation = request.seed, request.variation
    numbers = range(request.batch_size)
    if variation is None or variation.strength == 0:
        return [replace(request, batch_size=1, seed=seed + i) for i in numbers]
    seconds = [replace(variation, seed=variation.seed + i) for i in numbers]
    return [replace(request, batch_size=1, variation=second) for second in seconds]


def latent_shape(networks: Networks, request: Settled) -> tuple[int, int, int]:
    """Return the shape (C, h, w) of the request's latent."""
    config = networks.autoencoder_config
    return config.latent_channels, request.height // config.factor, request.width // config.factor


def levels_of(
    schedule: NoiseSchedule, networks: Networks, sampler: Sampler, request: Settled, canvas: Canvas
) -> list[float]:
    """Return the noise levels of a pass; with a source picture only the last ones, as its strength says."""
    levels = all_levels(schedule, networks, sampler, request.schedule, request.steps)
    return levels[canvas.first_step(request.steps) :]


def all_levels(
    schedule: NoiseSchedule, networks: Networks, sampler: Sampler, name: str, steps: int
) -> list[float]:
    """Return the noise levels of a schedule for this model and sampler; see `schedule.sigmas`."""
    return sigmas(
        schedule,
        name,
        steps,
        automatic=sampler.schedule,
        discard_penultimate=sampler.discard_penultimate,
        overrides=networks.family.levels,
    )


def _varied(request: Settled, whole: Floats, factor: int) -> Floats:
    """Apply a variation to the starting noise of one picture (C, h, w): a second seed, or another size."""
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
