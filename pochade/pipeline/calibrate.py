"""Fits a model's 8-bit grids by drawing and recording the inputs of its products."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from PIL import Image

from pochade.engines.engine import QuantizingEngine
from pochade.errors import InvalidRequest
from pochade.int8 import Observations
from pochade.loading.network import Network
from pochade.pipeline.pipeline import Pipeline
from pochade.quantization.files import Tables
from pochade.quantization.fit_grids import SMOOTHING, fit
from pochade.request import Request
from pochade.request_options import Source

PROMPTS = (
    "photograph of an old fisherman mending a net on a pier, morning fog, shallow focus",
    "a bowl of ripe peaches on a blue cloth, oil painting, thick brush strokes",
    "isometric drawing of a tiny greenhouse full of cactuses, pastel colours, white background",
    "city street at night in the rain, neon signs, reflections, wide angle",
    "a red fox running through snow, wildlife photography",
    "portrait of a young woman with freckles and a green scarf, studio light",
    "ink sketch of a sailing ship in a storm, high contrast",
    "a steaming cup of coffee beside an open book, top view, warm light",
)
"""Prompts with many subjects, media and colours, since the grids must suit all later prompts."""

STEPS = (5, 6, 7, 8)
"""Numbers of steps, used in turn, so that few evaluations cover many noise levels."""

OVER = 3
"""A refiner is calibrated on the last of so many parts of the steps."""


@dataclass(frozen=True)
class Calibrating:
    """Progress of the calibration; the last one has the grids."""

    step: int
    steps: int
    tables: Tables | None = None


def calibrate(
    pipeline: Pipeline, prompts: Sequence[str] = PROMPTS[:4], smoothing: float = SMOOTHING
) -> Iterator[Calibrating]:
    """Draw the prompts with the model's default size and guidance, and fit grids to the recorded inputs.

    SDXL's refiner uses image-to-image, and an inpainting model inpaints every other time, as in normal use.

    It takes about a minute for Stable Diffusion 1.5 if an evaluation takes two seconds. smoothing: see
    `pochade.quantization.fit_grids`; it may be larger with more prompts (up to 0.5).

    Raises InvalidRequest without prompts, or if the engine does not support 8-bit products.
    """
    if not prompts:
        raise InvalidRequest("there are no prompts to calibrate with; give at least one")
    if not 0 <= smoothing <= 1:
        raise InvalidRequest(f"smoothing is {smoothing}; it must lie between 0 and 1")
    of_unet: Observations = {}
    of_decoder: Observations = {}
    plain = pipeline.model if pipeline.loaded is None else pipeline.loaded  # grids are no LoRA's
    networks = plain.networks
    observed = replace(
        networks,
        unet=_observed(networks.unet, of_unet),
        autoencoder=_observed(networks.autoencoder, of_decoder),
    )
    observing = replace(pipeline, model=replace(plain, networks=observed))
    lengths = [STEPS[i % len(STEPS)] for i in range(len(prompts))]
    done, total = 0, sum(lengths)
    for seed, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
        for _ in observing.stream(_request(pipeline, prompt, seed, length)):
            done += 1
            if done < total:
                yield Calibrating(done, total)
    yield Calibrating(total, total, {"unet": fit(of_unet, smoothing), "vae": fit(of_decoder, smoothing)})


def _request(pipeline: Pipeline, prompt: str, number: int, steps: int) -> Request:
    networks = pipeline.networks
    side = networks.traits.side
    if networks.traits.needs_picture:
        source = Source(image=_landscape(side), denoising_strength=1 / OVER)
        return Request(prompt=prompt, seed=number, steps=OVER * steps, source=source)
    if networks.traits.reads_mask and number % 2:
        mask = Image.new("L", (side, side))
        mask.paste(255, (0, side // 2, side, side))
        source = Source(image=_landscape(side), mask=mask, denoising_strength=1.0)
        return Request(prompt=prompt, seed=number, steps=steps, source=source)
    return Request(prompt=prompt, seed=number, steps=steps)


def _landscape(side: int) -> Image.Image:
    """A synthetic landscape with sky and meadow, as a source picture."""
    colours = np.array([(70, 130, 210), (220, 230, 240), (120, 170, 70), (40, 80, 30)], np.float32)
    down = np.linspace(0, 1, side, dtype=np.float32)[:, None]
    above = colours[0] + (colours[1] - colours[0]) * down / 0.6
    below = colours[2] + (colours[3] - colours[2]) * (down - 0.6) / 0.4
    rows = np.where(down < 0.6, above, below)
    return Image.fromarray(np.repeat(rows[:, None].astype(np.uint8), side, axis=1))


def _observed(network: Network, observations: Observations) -> Network:
    engine = cast(QuantizingEngine, network.engine)  # `fit` takes int8 on such engines only
    return replace(network, engine=engine.observing(observations))
