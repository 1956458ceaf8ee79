"""The guided UNet as `predict(x, timestep)`, with reuse of features and noise, and prompts by step."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pochade.diffusion.guidance import compose, guide
from pochade.diffusion.parametrization import Denoise, Predict
from pochade.families.family import Conditioned, Conditioning
from pochade.loading.networks import Networks
from pochade.models.embedding import embed_timestep
from pochade.ops import Tensor
from pochade.request import Settled
from pochade.speed import FULL_STEP, StepWork

if TYPE_CHECKING:
    from pochade.generation.controlnet import ControlNetPass
    from pochade.generation.prompt_weights import Weight

Floats = NDArray[np.float32]
Named = dict[str, Tensor]

ROUNDING = 1e-6
"""Relative tolerance of noise levels, which samplers may recompute."""


def by_step(levels: Sequence[float], denoisers: Sequence[Denoise]) -> Denoise:
    """Return a `denoise(x, sigma)` that calls the denoiser of the step in which sigma lies.

    levels: the sampler's noise levels, decreasing. Step i is from levels[i], inclusive, to levels[i + 1]. So
    the result depends only on sigma, wherever a sampler evaluates it: at the middle or the end of a step, or
    at an earlier level.
    """
    if all(each is denoisers[0] for each in denoisers):
        return denoisers[0]
    negative = [-level for level in levels[:-1]]

    def denoise(x: Floats, sigma: float) -> Floats:
        step = bisect_right(negative, -sigma * (1 - ROUNDING)) - 1
        result: Floats = denoisers[min(max(0, step), len(denoisers) - 1)](x, sigma)
        return result

    return denoise


@dataclass(eq=False)
class FeatureCache:
    """Results that later steps reuse.

    deep: (index of the first picture, index of the conditioning) -> deep features.
    noise: (B, C, h, w), unit normal, predicted by the last evaluation.
    left_out: the computations that were skipped for speed.
    """

    deep: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    noise: Tensor | None = None
    left_out: set[str] = field(default_factory=set)


def reusing_noise(denoise: Denoise, cache: FeatureCache, held: bool) -> Denoise:
    """Return a `denoise` that caches the noise it predicts, or if `held` reuses the cached noise.

    Noise is reused rather than data, since the influence of an old noise estimate decreases with sigma.
    """

    def predict_noise(x: Tensor, sigma: float) -> Tensor:
        denoised = denoise(x, sigma)
        cache.noise = (x - denoised) / sigma
        return denoised

    def reuse_noise(x: Tensor, sigma: float) -> Tensor:
        if cache.noise is None:
            return predict_noise(x, sigma)
        cache.left_out.add("whole evaluations")
        return x - sigma * cache.noise

    return reuse_noise if held else predict_noise


def predictor(
    networks: Networks,
    request: Settled,
    conditionings: Sequence[Conditioning],
    weights: "Sequence[Weight]" = (1.0,),
    extra: Tensor | None = None,
    controlnets: "Sequence[ControlNetPass]" = (),
    work: StepWork = FULL_STEP,
    cache: FeatureCache | None = None,
) -> Predict:
    """Return `predict(x, timestep)` for latents (B, 4, h, w) on the UNet's device.

    conditionings: those of the prompts, then that of the negative prompt if guidance is on. weights: of the
        prompts; several if prompts are composed, possibly as maps.
    extra: (1, C, h, w), further channels of inpainting models, on the device.
    controlnets: ControlNets that are evaluated before the UNet.
    work: what is computed. cache: shared by the predictors of all steps.

    Pictures are evaluated with all their conditionings in one call, and as many together as the engine
    prefers: one on a processor, which gains nothing from larger batches. So there the graph, and each
    picture, does not depend on the number of pictures. Contexts of different lengths (see
    `conditioning.even`) are evaluated one after another.
    """
    cache = FeatureCache() if cache is None else cache
    engine, family = networks.unet.engine, networks.family
    scale, traits = request.cfg_scale, networks.traits
    weights = [weight if isinstance(weight, (int, float)) else engine.place(weight) for weight in weights]
    hints = [engine.place(each.hint) for each in controlnets] if engine.joins else []
    known: dict[tuple[int, int, int], Named] = {}
    at_once = work == FULL_STEP and len({each.context.shape for each in conditionings}) == 1

    def constant_inputs(count: int, first: int, end: int) -> Named:
        """The inputs that are the same at every step, for `count` pictures with these conditionings."""
        if (count, first, end) not in known:
            chosen = [each for each in conditionings[first:end] for _ in range(count)]
            prompts = count * max(0, len(weights) - first)
            rows = Conditioned(
                conditionings=chosen, prompts=prompts, width=request.width, height=request.height
            )
            named = family.constant_inputs(networks.configs, rows)
            known[count, first, end] = {name: engine.place(array) for name, array in named.items()}
        return known[count, first, end]

    def full_unet(pictures: Tensor, timestep: float, first: int, end: int) -> Tensor:
        """The whole UNet and its ControlNets for pictures with the conditionings first..end-1:
        (n, 4, h, w) -> ((end - first) * n, 4, h, w), one conditioning after another."""
        named = inputs(pictures, timestep, first, end)
        if not controlnets:
            return networks.predict(**with_extra(named))
        if engine.joins:
            return networks.predict_with_controlnets(
                [each.network for each in controlnets],
                **named,
                **controlnet_inputs(len(named["x"]), timestep),
            )
        from pochade.generation.controlnet import residuals

        constant = constant_inputs(len(pictures), first, end)
        return networks.predict(
            *residuals(networks, controlnets, named["x"], timestep, **constant), **with_extra(named)
        )

    def inputs(pictures: Tensor, timestep: float, first: int, end: int) -> Named:
        """The inputs of the denoiser, without the extra channels of inpainting models."""
        rows = (end - first) * len(pictures)
        named = family.step_inputs(networks.unet.config, timestep, rows, scale)
        placed = {name: engine.place(array) for name, array in named.items()}
        return {
            "x": engine.join([pictures] * (end - first)),
            **placed,
            **constant_inputs(len(pictures), first, end),
        }

    def with_extra(named: Named) -> Named:
        if extra is None:
            return named
        x = named["x"]
        return {**named, "x": engine.join([x, engine.join([extra] * len(x))], axis=1)}

    def controlnet_inputs(rows: int, timestep: float) -> Named:
        """The further inputs of `unet_with_controlnets`."""
        named = {} if extra is None else {"extra": engine.join([extra] * rows)}
        for i, (each, hint) in enumerate(zip(controlnets, hints, strict=True)):
            times = embed_timestep(each.config.unet, np.full(rows, timestep, np.float32))
            strength = np.full((1, 1, 1, 1), each.control.strength, np.float32)
            named[f"hint_{i}"] = hint
            named[f"time_{i}"], named[f"strength_{i}"] = engine.place(times), engine.place(strength)
        return named

    def evaluate(number: int, pictures: Tensor, timestep: float, count: int) -> list[Tensor]:
        """Evaluate pictures from index `number` on with the first `count` conditionings: one (n, 4, h, w)
        each."""
        if at_once:
            found = full_unet(pictures, timestep, 0, count)
            n = len(pictures)
            return [found[i * n : (i + 1) * n] for i in range(count)]
        return [with_cached_features(number, pictures, timestep, row) for row in range(count)]

    def with_cached_features(number: int, pictures: Tensor, timestep: float, row: int) -> Tensor:
        """Evaluate one conditioning alone, since its context length and its cached features are its own."""
        if controlnets or not work.layers or family.denoiser.with_features is None:
            return full_unet(pictures, timestep, row, row + 1)
        named = with_extra(inputs(pictures, timestep, row, row + 1))
        place = number, row
        if work.full or place not in cache.deep:
            result, cache.deep[place] = networks.predict_with_features(work.layers, **named)
            return result
        cache.left_out.add("deep layers")
        return networks.predict_from_features(work.layers, deep=cache.deep[place], **named)

    def batches(x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield the pictures that are evaluated together, with the index of the first."""
        _, _, rows, columns = x.shape
        at_once = engine.pictures_at_once(traits.activation * rows * columns * len(conditionings))
        for number in range(0, len(x), at_once):
            yield number, x[number : number + at_once]

    def cond_and_uncond(x: Tensor, timestep: float) -> tuple[Tensor, Tensor]:
        conds, unconds = [], []
        for number, pictures in batches(x):
            if work.guided or len(weights) > 1:
                *found, uncond = evaluate(number, pictures, timestep, len(conditionings))
                cond = found[0] if len(weights) == 1 else compose(found, weights, uncond)
            else:
                cache.left_out.add("negative prompt")
                (cond,) = (uncond,) = evaluate(number, pictures, timestep, 1)
            conds.append(cond)
            unconds.append(uncond)
        return engine.join(conds), engine.join(unconds)

    def cond_only(x: Tensor, timestep: float) -> Tensor:
        return engine.join([evaluate(number, each, timestep, 1)[0] for number, each in batches(x)])

    if len(conditionings) == 1:
        return cond_only
    return guide(cond_and_uncond, 1.0 if traits.takes_guidance else scale, request.guidance_rescale)
