"""The UNet with guidance, as the `predict(x, timestep)` that samplers are built on; and which prompt when."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pochade.diffusion.guidance import compose, guide
from pochade.diffusion.parametrization import Denoise, Predict
from pochade.models.config import TextEncoderConfig
from pochade.models.embedding import embed_guidance, embed_sizes, embed_timestep
from pochade.pipeline.drawing.conditioning import Conditioning
from pochade.pipeline.drawing.control import Steering, residuals
from pochade.pipeline.drawing.regions import Weight
from pochade.pipeline.loading.networks import Networks
from pochade.request import Settled
from pochade.speed import EVERYTHING, StepWork

Floats = NDArray[np.float32]
Residuals = Sequence[Floats]
Named = dict[str, Floats]

PLEASING, UNPLEASING = 6.0, 2.5
"""The scores that XL's refiner is told with a prompt and with a negative one, as its authors have it."""

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


@dataclass(frozen=True, eq=False)
class Memory:
    """What later steps use again, by the number of the picture.

    deep: (picture, conditioning) -> deep features. left_out: what was not computed so far, for speed.
    """

    deep: dict[tuple[int, int], Floats] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)


def predictor(
    networks: Networks,
    request: Settled,
    conditionings: Sequence[Conditioning],
    weights: Sequence[Weight] = (1.0,),
    extra: Floats | None = None,
    steerings: Sequence[Steering] = (),
    work: StepWork = EVERYTHING,
    memory: Memory | None = None,
) -> Predict:
    """`predict(x, timestep)` for latents (B, 4, h, w).

    conditionings: the prompts', then the negative prompt's if guidance is on. weights: of the prompts; there
        are several only if they are composed, and then some may count in a part of the picture alone.
    extra: (1, C, h, w), channels that inpainting models read beside the latent.
    steerings: ControlNets that are asked before the UNet.
    work: what of it is computed. memory: shared by the predictors of all steps.

    Pictures are evaluated one at a time, each with both conditionings in one call: a processor gains nothing
    from larger batches, the graph is the same for any number of pictures, and so is each picture.
    """
    memory = Memory() if memory is None else memory

    def inputs(picture: Floats, timestep: float, first: int, end: int) -> tuple[Residuals, Named]:
        """Of the UNet, for one picture (4, h, w) with the conditionings from `first` to before `end`."""
        chosen, prompts = conditionings[first:end], max(0, len(weights) - first)
        told = {
            "context": np.concatenate([each.context for each in chosen]),
            **_added(networks, request, chosen, prompts),
        }
        batch = np.repeat(picture[None], len(chosen), axis=0)
        steered = residuals(networks, steerings, batch, timestep, **told)
        if extra is not None:
            batch = np.concatenate([batch, np.repeat(extra, len(chosen), axis=0)], axis=1)
        time = embed_timestep(networks.unet_config, np.full(len(chosen), timestep, np.float32))
        return steered, {"x": batch, "time": time, **told, **_guidance(networks, request, len(chosen))}

    def evaluate(number: int, picture: Floats, timestep: float, count: int) -> Floats:
        """Picture `number` with the first `count` conditionings: (4, h, w) -> (count, 4, h, w)."""
        if work == EVERYTHING:
            steered, named = inputs(picture, timestep, 0, len(conditionings))
            return networks.predict(*steered, **named)
        return np.concatenate([economical(number, picture, timestep, row) for row in range(count)])

    def economical(number: int, picture: Floats, timestep: float, row: int) -> Floats:
        """One conditioning alone, so that one graph does for both and each has its own deep features."""
        steered, named = inputs(picture, timestep, row, row + 1)
        if steered or not work.layers:
            return networks.predict(*steered, **named)
        place = number, row
        if work.whole or place not in memory.deep:
            result, memory.deep[place] = networks.predict_keeping(work.layers, **named)
            return result
        memory.left_out.add("deep layers")
        return networks.predict_again(work.layers, deep=memory.deep[place], **named)

    def both(x: Floats, timestep: float) -> tuple[Floats, Floats]:
        pairs = []
        for number, picture in enumerate(x):
            if work.guided or len(weights) > 1:
                found = evaluate(number, picture, timestep, len(conditionings))
                uncond = found[-1]
                cond = found[0] if len(weights) == 1 else compose(list(found[:-1]), weights, uncond)
            else:
                memory.left_out.add("negative prompt")
                cond = uncond = evaluate(number, picture, timestep, 1)[0]
            pairs.append((cond, uncond))
        conds, unconds = (np.stack(each) for each in zip(*pairs, strict=True))
        return conds, unconds

    if len(conditionings) == 1:
        return lambda x, timestep: np.concatenate(
            [evaluate(number, picture, timestep, 1) for number, picture in enumerate(x)]
        )
    told_the_scale = networks.unet_config.guidance_width is not None
    return guide(both, 1.0 if told_the_scale else request.cfg_scale, request.guidance_rescale)


def _added(
    networks: Networks, request: Settled, conditionings: Sequence[Conditioning], prompts: int
) -> dict[str, Floats]:
    """The further input of XL: pooled text and sizes, in the refiner with a score in place of the target's.

    prompts: how many of the conditionings are no negative prompt's.
    """
    config = networks.unet_config
    if config.added_width is None:
        return {}
    pooled = np.concatenate([each.pooled for each in conditionings])
    original, crop = (request.height, request.width), (0, 0)
    sizes: list[tuple[float, ...]] = [(*original, *crop, *original)] * len(conditionings)
    if is_told_a_score(networks):
        scores = [PLEASING if i < prompts else UNPLEASING for i in range(len(conditionings))]
        sizes = [(*original, *crop, score) for score in scores]
    return {"added": embed_sizes(config, pooled, sizes)}


def is_told_a_score(networks: Networks) -> bool:
    """Whether it is XL's refiner: beside the pooled text it has room for five numbers, not for six."""
    config = networks.unet_config
    encoder = networks.text_encoder_2 or networks.text_encoder
    assert isinstance(encoder.config, TextEncoderConfig)
    if config.added_width is None or config.added_time_width is None:
        return False
    pooled = encoder.config.projection_width or encoder.config.width
    return config.added_width == pooled + 5 * config.added_time_width


def _guidance(networks: Networks, request: Settled, rows: int) -> dict[str, Floats]:
    """The further input of LCM: the guidance scale."""
    config = networks.unet_config
    if config.guidance_width is None:
        return {}
    return {"guidance": embed_guidance(config, [request.cfg_scale] * rows)}
