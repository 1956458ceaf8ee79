"""The UNet with guidance, as the `predict(x, timestep)` that samplers are built on; and which prompt when."""

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
"""Relative: a sampler may come back to a level by arithmetic."""


def in_steps(levels: Sequence[float], denoisers: Sequence[Denoise]) -> Denoise:
    """`denoise(x, sigma)` that is another function in each step: the one of the step that sigma lies in.

    levels: as the sampler is given them, decreasing. Step i begins at levels[i], which belongs to it, and
    ends before levels[i + 1]. So it stays a function of sigma alone, whatever a sampler evaluates: middles of
    steps, the end of one, a level that it goes back to.
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
    """What later steps use again.

    deep: (number of the picture, or of the first of several, and of the conditioning) -> deep features.
    noise: (B, C, h, w), of deviation 1, that the last evaluation found in all pictures.
    left_out: what was not computed so far, for speed.
    """

    deep: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    noise: Tensor | None = None
    left_out: set[str] = field(default_factory=set)


def holding(denoise: Denoise, memory: FeatureCache, held: bool) -> Denoise:
    """`denoise` that remembers the noise it finds; or, if held, takes over what was found last.

    It holds noise, not data: sigma falls on the way, and with it what an old estimate does to the picture.
    """

    def find(x: Tensor, sigma: float) -> Tensor:
        denoised = denoise(x, sigma)
        memory.noise = (x - denoised) / sigma
        return denoised

    def take_over(x: Tensor, sigma: float) -> Tensor:
        if memory.noise is None:
            return find(x, sigma)
        memory.left_out.add("whole evaluations")
        return x - sigma * memory.noise

    return take_over if held else find


def predictor(
    networks: Networks,
    request: Settled,
    conditionings: Sequence[Conditioning],
    weights: "Sequence[Weight]" = (1.0,),
    extra: Tensor | None = None,
    steerings: "Sequence[ControlNetPass]" = (),
    work: StepWork = FULL_STEP,
    memory: FeatureCache | None = None,
) -> Predict:
    """`predict(x, timestep)` for latents (B, 4, h, w), placed by the UNet's engine.

    conditionings: the prompts', then the negative prompt's if guidance is on. weights: of the prompts; there
        are several only if they are composed, and then some may count in a part of the picture alone.
    extra: (1, C, h, w), placed, channels that inpainting models read beside the latent.
    steerings: ControlNets that are asked before the UNet.
    work: what of it is computed. memory: shared by the predictors of all steps.

    Pictures are evaluated in one call with all their conditionings, and as many of them as the engine likes:
    on a processor one at a time, which gains nothing from larger batches; there the graph is the same for any
    number of pictures, and so is each picture. Contexts of different lengths (see `conditioning.even`) are
    evaluated one after another.
    """
    memory = FeatureCache() if memory is None else memory
    engine, family = networks.unet.engine, networks.family
    scale, traits = request.cfg_scale, networks.traits
    weights = [weight if isinstance(weight, (int, float)) else engine.place(weight) for weight in weights]
    hints = [engine.place(each.hint) for each in steerings] if engine.joins else []
    known: dict[tuple[int, int, int], Named] = {}
    at_once = work == FULL_STEP and len({each.context.shape for each in conditionings}) == 1

    def told(count: int, first: int, end: int) -> Named:
        """What does not change from step to step, for `count` pictures with these conditionings."""
        if (count, first, end) not in known:
            chosen = [each for each in conditionings[first:end] for _ in range(count)]
            prompts = count * max(0, len(weights) - first)
            rows = Conditioned(
                conditionings=chosen, prompts=prompts, width=request.width, height=request.height
            )
            named = family.constant_inputs(networks.configs, rows)
            known[count, first, end] = {name: engine.place(array) for name, array in named.items()}
        return known[count, first, end]

    def whole(pictures: Tensor, timestep: float, first: int, end: int) -> Tensor:
        """All of the UNet, and its ControlNets, for pictures with the conditionings from `first` to before
        `end`: (n, 4, h, w) -> ((end - first) * n, 4, h, w), a conditioning after the other."""
        named = inputs(pictures, timestep, first, end)
        if not steerings:
            return networks.predict(**with_extra(named))
        if engine.joins:
            return networks.predict_with_controlnets(
                [each.network for each in steerings], **named, **beside(len(named["x"]), timestep)
            )
        from pochade.generation.controlnet import residuals

        constant = told(len(pictures), first, end)
        return networks.predict(
            *residuals(networks, steerings, named["x"], timestep, **constant), **with_extra(named)
        )

    def inputs(pictures: Tensor, timestep: float, first: int, end: int) -> Named:
        """Of the denoiser, but for the channels of inpainting models."""
        rows = (end - first) * len(pictures)
        named = family.step_inputs(networks.unet.config, timestep, rows, scale)
        placed = {name: engine.place(array) for name, array in named.items()}
        return {"x": engine.join([pictures] * (end - first)), **placed, **told(len(pictures), first, end)}

    def with_extra(named: Named) -> Named:
        if extra is None:
            return named
        x = named["x"]
        return {**named, "x": engine.join([x, engine.join([extra] * len(x))], axis=1)}

    def beside(rows: int, timestep: float) -> Named:
        """What `unet_with_controlnets` reads further."""
        named = {} if extra is None else {"extra": engine.join([extra] * rows)}
        for i, (each, hint) in enumerate(zip(steerings, hints, strict=True)):
            times = embed_timestep(each.config.unet, np.full(rows, timestep, np.float32))
            strength = np.full((1, 1, 1, 1), each.control.strength, np.float32)
            named[f"hint_{i}"] = hint
            named[f"time_{i}"], named[f"strength_{i}"] = engine.place(times), engine.place(strength)
        return named

    def evaluate(number: int, pictures: Tensor, timestep: float, count: int) -> list[Tensor]:
        """Pictures from `number` on with the first `count` conditionings: (n, 4, h, w) -> as many each."""
        if at_once:
            found = whole(pictures, timestep, 0, count)
            n = len(pictures)
            return [found[i * n : (i + 1) * n] for i in range(count)]
        return [economical(number, pictures, timestep, row) for row in range(count)]

    def economical(number: int, pictures: Tensor, timestep: float, row: int) -> Tensor:
        """One conditioning alone: its text may have a length of its own, and its deep features are."""
        if steerings or not work.layers or family.denoiser.with_features is None:
            return whole(pictures, timestep, row, row + 1)
        named = with_extra(inputs(pictures, timestep, row, row + 1))
        place = number, row
        if work.full or place not in memory.deep:
            result, memory.deep[place] = networks.predict_with_features(work.layers, **named)
            return result
        memory.left_out.add("deep layers")
        return networks.predict_from_features(work.layers, deep=memory.deep[place], **named)

    def groups(x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The pictures that are evaluated together, and the number of the first."""
        _, _, rows, columns = x.shape
        at_once = engine.pictures_at_once(traits.activation * rows * columns * len(conditionings))
        for number in range(0, len(x), at_once):
            yield number, x[number : number + at_once]

    def both(x: Tensor, timestep: float) -> tuple[Tensor, Tensor]:
        conds, unconds = [], []
        for number, pictures in groups(x):
            if work.guided or len(weights) > 1:
                *found, uncond = evaluate(number, pictures, timestep, len(conditionings))
                cond = found[0] if len(weights) == 1 else compose(found, weights, uncond)
            else:
                memory.left_out.add("negative prompt")
                (cond,) = (uncond,) = evaluate(number, pictures, timestep, 1)
            conds.append(cond)
            unconds.append(uncond)
        return engine.join(conds), engine.join(unconds)

    def alone(x: Tensor, timestep: float) -> Tensor:
        return engine.join([evaluate(number, each, timestep, 1)[0] for number, each in groups(x)])

    if len(conditionings) == 1:
        return alone
    return guide(both, 1.0 if traits.takes_guidance else scale, request.guidance_rescale)
