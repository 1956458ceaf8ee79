"""What a request leaves open, settled for a model; and what it then asks of the networks."""

import secrets
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from pochade.checkpoints import library
from pochade.diffusion.samplers import Sampler, find_sampler
from pochade.diffusion.schedule import AUTOMATIC, find_schedule, split_sampler_name
from pochade.errors import InvalidRequest
from pochade.images.fitting import drawn_size
from pochade.pipeline.drawing import hires
from pochade.pipeline.drawing.wording import wordings
from pochade.pipeline.loading.beside import named_upscaler
from pochade.pipeline.loading.budget import Load
from pochade.pipeline.loading.networks import Networks
from pochade.request import Request, Settled, Usual, open_ones


def settle(
    networks: Networks, request: Request, usual: Usual, roots: Sequence[Path]
) -> tuple[Settled, Sampler]:
    """Everything that was left to us, with the labels of sampler and schedule and the paths of other models.

    usual: of the model. roots: folders in which other models are looked for by name. Raises InvalidRequest
    and InvalidCheckpoint for names of nothing, and for sizes that the model cannot draw.
    """
    asked = {each.name: getattr(request, each.name) for each in fields(Request)}
    asked |= open_ones(asked, usual)
    name, fused = split_sampler_name(asked["sampler"])
    sampler = find_sampler(name)
    schedule = find_schedule(asked["schedule"])
    if fused is not None and (schedule == AUTOMATIC or request.schedule is None):
        schedule = fused
    width, height = size_of(networks, request)
    check_size(networks, width, height)
    asked |= {
        "sampler": sampler.label,
        "schedule": schedule,
        "eta": request.eta if "eta" in sampler.options else None,
        "width": width,
        "height": height,
        "seed": secrets.randbelow(2**32) if request.seed is None else request.seed,
        "controls": tuple(
            replace(each, model=library.find(each.model, roots, "controlnet")) for each in request.controls
        ),
    }
    if request.hires is not None:
        asked["hires"] = replace(request.hires, upscaler=named_upscaler(request.hires.upscaler, roots))
    return Settled(**asked), sampler


def size_of(networks: Networks, request: Request) -> tuple[int, int]:
    """Width and height, px; what is left open as `drawn_size` has it. Looking closer has the model's own."""
    factor, side = networks.autoencoder_config.factor, networks.unet_config.sample_size
    source = None if request.source is None or request.source.only_masked else request.source.image.size
    width, height = drawn_size((side * factor, side * factor), source, factor)
    width = width if request.width is None else request.width
    return width, height if request.height is None else request.height


def check_size(networks: Networks, width: int, height: int) -> None:
    """Raises InvalidRequest, saying what is near, for sides that are no whole latent pixels."""
    factor = networks.autoencoder_config.factor
    for name, side in (("width", width), ("height", height)):
        if side % factor:
            low = side // factor * factor
            near = f"{low} or {low + factor}" if low else f"{factor}"
            raise InvalidRequest(f"{name} is {side}; this model draws multiples of {factor}: try {near}")


def prompts_of(request: Request) -> list[str]:
    """All that may name adapters and new words."""
    second = [] if request.blend is None else [request.blend.prompt]
    return [request.prompt, request.negative_prompt, *second]


def guided(networks: Networks, request: Settled) -> bool:
    """Whether the negative prompt is computed too. A model that is told the scale needs none."""
    return request.cfg_scale != 1 and networks.unet_config.guidance_width is None


def refiner_path(request: Settled, roots: Sequence[Path]) -> Path | None:
    """The model that takes over for the last part, if one has a part to do. Raises InvalidCheckpoint."""
    if request.refiner is None or request.refiner.switch == 1:
        return None
    return library.find(request.refiner.model, roots)


def load_of(networks: Networks, request: Settled, roots: Sequence[Path], *, adapted: bool) -> Load:
    """What a request asks of the networks. adapted: their weights are changed by adapters."""
    size = larger = request.width, request.height
    if request.hires is not None:
        larger = hires.size_of(request, request.hires, networks.autoencoder_config.factor)
    steered = [each for each in request.controls if each.strength > 0]
    beside = [Path(each.model) for each in request.controls]
    refiner = refiner_path(request, roots)
    if refiner is not None:
        beside.append(refiner)
    told = wordings(
        request.prompt,
        request.negative_prompt,
        1,
        guided=guided(networks, request),
        blend=request.blend,
    )
    return Load(
        width=larger[0],
        height=larger[1],
        rows=max(len(each.parts) + (each.negative is not None) for each in told),
        encodes=request.source is not None or request.hires is not None,
        adapted=adapted,
        sizes=1 if larger == size else 2,
        forms=2 if any((each.start, each.end) != (0, 1) for each in steered) else 1,
        beside=sum(map(library.weights_of, beside)),
    )
