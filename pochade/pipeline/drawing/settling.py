"""What a request leaves open, settled for a model; and what it then asks of the networks."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pochade.checkpoints import library
from pochade.diffusion.samplers import Sampler, find_sampler
from pochade.diffusion.schedule import AUTOMATIC, find_schedule, split_sampler_name
from pochade.errors import InvalidRequest
from pochade.pipeline.drawing import hires
from pochade.pipeline.drawing.conditioning import context_shapes
from pochade.pipeline.drawing.passes import OWN_OF_HIRES, second_request
from pochade.pipeline.drawing.sizes import Size, size_over, whole_latents
from pochade.pipeline.drawing.wording import Wording, wordings
from pochade.pipeline.loading.beside import named_upscaler
from pochade.pipeline.loading.budget import Load
from pochade.pipeline.loading.networks import Networks
from pochade.request import FILLED, FITTED, Request, Settled, Usual, open_ones
from pochade.settings import STARTER, starter_folder
from pochade.ways import Hires


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
    (width, height), framing = size_of(networks, request)
    check_size(networks, width, height)
    if request.tiling and not networks.family.denoiser.seamless:
        raise InvalidRequest(
            f"tiling is not supported for {networks.family.label}, which the model is; leave it out"
        )
    asked |= {"sampler": sampler.label, "schedule": schedule}
    second, samplers = None, [sampler]
    if request.hires is not None:
        second = _settled_hires(request.hires, asked, roots)
        samplers.append(sampler if second.sampler is None else find_sampler(second.sampler))
    asked |= {
        "eta": request.eta if any("eta" in each.options for each in samplers) else None,
        "width": width,
        "height": height,
        "framing": framing,
        "seed": secrets.randbelow(2**32) if request.seed is None else request.seed,
        "controls": tuple(
            replace(each, model=library.find(each.model, roots, "controlnet")) for each in request.controls
        ),
        "hires": second,
    }
    return Settled(**asked), sampler


def _settled_hires(hires: Hires, first: Mapping[str, Any], roots: Sequence[Path]) -> Hires:
    """With the labels of its own sampler and schedule, and the paths of its upscaler and model.

    first: the fields of the request, sampler and schedule settled. What is the same in both passes is None:
    a picture's text tells what differs.
    """
    own = {name: getattr(hires, name) for name in OWN_OF_HIRES}
    fused = None
    if hires.sampler is not None:
        name, fused = split_sampler_name(hires.sampler)
        own["sampler"] = find_sampler(name).label
    if hires.schedule is not None:
        own["schedule"] = find_schedule(hires.schedule)
    if fused is not None and own["schedule"] in (None, AUTOMATIC):
        own["schedule"] = fused
    model = hires.model
    if model is not None:
        model = starter_folder() if str(model) == STARTER else library.find(model, roots)
    differing: dict[str, Any] = {name: None if value == first[name] else value for name, value in own.items()}
    return replace(hires, upscaler=named_upscaler(hires.upscaler, roots), model=model, **differing)


def size_of(networks: Networks, request: Request) -> tuple[Size, str]:
    """Width and height, px, of what is drawn, and the framing.

    What is left open is the model's own size, in the shape of a source picture. A whole source picture keeps
    its size as `size_over` says, or if just that is asked for, whatever the model's multiples are.
    """
    factor = networks.traits.multiple
    width = height = networks.traits.side
    asked, source = (request.width, request.height), request.source
    if source is not None and not source.only_masked:
        picture = source.image.size
        if asked == picture:
            return whole_latents(picture, factor), FILLED
        drawn, framing = size_over(picture, (width, height), factor, masked=source.mask is not None)
        if asked == (None, None):
            return drawn, framing
        width, height = drawn
    width = width if request.width is None else request.width
    return (width, height if request.height is None else request.height), FITTED


def check_size(networks: Networks, width: int, height: int) -> None:
    """Raises InvalidRequest, saying what is near, for sides that are no whole latent pixels."""
    factor = networks.traits.multiple
    for name, side in (("width", width), ("height", height)):
        if side % factor:
            low = side // factor * factor
            near = f"{low} or {low + factor}" if low else f"{factor}"
            raise InvalidRequest(f"{name} is {side}; this model draws multiples of {factor}: try {near}")


def prompts_of(request: Request) -> list[str]:
    """All of the first pass, or the only one, that may name adapters and new words."""
    second = [] if request.blend is None else [request.blend.prompt]
    return [request.prompt, request.negative_prompt, *second]


def guided(networks: Networks, request: Settled) -> bool:
    """Whether the negative prompt is computed too. A model that is told the scale needs none."""
    return request.cfg_scale != 1 and not networks.traits.takes_guidance


def wordings_of(
    networks: Networks, request: Settled, later: Networks | None = None
) -> tuple[list[Wording], list[Wording]]:
    """What the prompts say at each step of the first pass, and of the second, if there is one.

    later: what the second pass is drawn with; None: the same networks.
    """
    steps, blend = request.steps, request.blend
    first = wordings(
        request.prompt, request.negative_prompt, steps, guided=guided(networks, request), blend=blend
    )
    if request.hires is None:
        return first, []
    own = second_request(request)
    second = wordings(
        own.prompt,
        own.negative_prompt,
        own.steps,
        guided=guided(networks if later is None else later, own),
        first_pass_steps=steps,
        blend=blend,
    )
    return first, second


def refiner_path(request: Settled, roots: Sequence[Path]) -> Path | None:
    """The model that takes over for the last part, if one has a part to do. Raises InvalidCheckpoint."""
    if request.refiner is None or request.refiner.switch == 1:
        return None
    return library.find(request.refiner.model, roots)


def load_of(
    networks: Networks,
    tokenizers: Sequence[Any],
    request: Settled,
    roots: Sequence[Path],
    *,
    adapted: int,
) -> Load:
    """What a request asks of the networks. adapted: in how many ways adapters change their weights."""
    size = larger = request.width, request.height
    if request.hires is not None:
        larger = hires.size_of(request, request.hires, networks.traits.multiple)
    steered = [each for each in request.controls if each.strength > 0]
    beside = [Path(each.model) for each in request.controls]
    refiner = refiner_path(request, roots)
    if refiner is not None:
        beside.append(refiner)
    if request.hires is not None and request.hires.model is not None:
        beside.append(Path(request.hires.model))
    first, second = wordings_of(networks, request)
    told = list(dict.fromkeys([*first, *second]))
    shapes = context_shapes(networks.family, tokenizers, told, request.emphasis)
    texts = {(rows, networks.unet.tokens_side(length)) for rows, length in shapes}
    forms = 2 if any((each.start, each.end) != (0, 1) for each in steered) else 1
    return Load(
        width=larger[0],
        height=larger[1],
        rows=max(len(each.parts) + (each.negative is not None) for each in told),
        encodes=request.source is not None or request.hires is not None,
        adapted=adapted,
        sizes=1 if larger == size else 2,
        forms=forms * len(texts),
        beside=sum(map(library.weights_of, beside)),
    )
