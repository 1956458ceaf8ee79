"""Settles a request: resolves its defaults and names, and estimates what it needs from the networks."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pochade.checkpoints import library
from pochade.checkpoints.few_steps import FewSteps
from pochade.diffusion.samplers import Sampler, find_sampler
from pochade.diffusion.schedule import AUTOMATIC, find_schedule, split_sampler_name
from pochade.errors import InvalidRequest
from pochade.generation.conditioning import context_shapes
from pochade.generation.prompt_plan import Prompts, StepPrompts, parse_prompts, prompts_of_steps
from pochade.generation.sizes import Size, size_over, whole_latents
from pochade.loading.adapters import Additions
from pochade.loading.memory_plan import MemoryPlan, NetworkLoad
from pochade.loading.model import Model
from pochade.loading.network import Network
from pochade.loading.networks import Networks
from pochade.loading.process_memory import release
from pochade.request import FILLED, FITTED, Defaults, Request, Settled, missing_fields
from pochade.request_options import Hires
from pochade.settings import STARTER, starter_folder


@dataclass(frozen=True, eq=False, kw_only=True)
class GenerationContext:
    """Model and settings shared by all stages of one generation.

    additions: those in the model's networks. roots: folders that are searched for other models. plan: for a
    memory budget; None if there is none. second: the context of the second pass, if its model or additions
    differ. vae: the path of the autoencoder that was given instead of the model's own.
    """

    model: Model
    additions: Additions
    roots: Sequence[Path]
    plan: MemoryPlan | None = None
    second: "GenerationContext | None" = None
    vae: Path | None = None

    @property
    def last(self) -> "GenerationContext":
        """The context of the last pass."""
        return self if self.second is None else self.second

    @property
    def low_memory(self) -> bool:
        """Whether each network is released before the next is loaded."""
        return self.plan is not None and self.plan.one_by_one

    def release(self, *done: Network | None) -> None:
        """Release networks that are not needed soon, if memory is short."""
        if self.low_memory:
            for each in done:
                if each is not None:
                    each.release()
            release()


@dataclass(frozen=True, eq=False, kw_only=True)
class Prepared:
    """A request that is settled for a model: `Pipeline.prepare` returns it and `Pipeline.draw` draws it.

    prompts: the parsed prompts. sampler: of the first or only pass. few_steps: the settings of the model, or
    of an adapter in the prompts, that was distilled for few steps.
    """

    request: Settled
    prompts: Prompts
    sampler: Sampler
    context: GenerationContext
    few_steps: FewSteps | None = None

    def within(self, plan: MemoryPlan) -> "Prepared":
        """Return the same with a memory plan."""
        second = self.context.second
        planned = None if second is None else replace(second, plan=plan)
        return replace(self, context=replace(self.context, plan=plan, second=planned))


def settle(
    networks: Networks, request: Request, defaults: Defaults, roots: Sequence[Path]
) -> tuple[Settled, Sampler]:
    """Resolve all defaults of a request, the labels of sampler and schedule, and the paths of other models.

    defaults: of the model. roots: folders that are searched for other models. Raises InvalidRequest or
    InvalidCheckpoint for unknown names and for sizes that the model cannot draw.
    """
    values = {each.name: getattr(request, each.name) for each in fields(Request)}
    values |= missing_fields(values, defaults)
    name, fused = split_sampler_name(values["sampler"])
    sampler = find_sampler(name)
    schedule = find_schedule(values["schedule"])
    if fused is not None and (schedule == AUTOMATIC or request.schedule is None):
        schedule = fused
    (width, height), framing = size_of(networks, request)
    check_size(networks, width, height)
    if request.tiling and not networks.family.denoiser.seamless:
        raise InvalidRequest(
            f"tiling is not supported for {networks.family.label}, which the model is; leave it out"
        )
    values |= {"sampler": sampler.label, "schedule": schedule}
    second, samplers = None, [sampler]
    if request.hires is not None:
        second = _settled_hires(request.hires, values, roots)
        samplers.append(sampler if second.sampler is None else find_sampler(second.sampler))
    values |= {
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
    return Settled(**values), sampler


def _settled_hires(hires: Hires, first: Mapping[str, Any], roots: Sequence[Path]) -> Hires:
    """Resolve the labels of hires' sampler and schedule, and the paths of its upscaler and model.

    first: the fields of the request, sampler and schedule settled. Settings that equal those of the first
    pass become None, since the parameters text only states differences.
    """
    from pochade.generation.pass_settings import OWN_OF_HIRES
    from pochade.loading.auxiliary import resolve_upscaler

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
    return replace(hires, upscaler=resolve_upscaler(hires.upscaler, roots), model=model, **differing)


def size_of(networks: Networks, request: Request) -> tuple[Size, str]:
    """Return width and height of the drawn picture, px, and the framing.

    The default is the model's size, with the aspect ratio of a source picture. A source picture that is drawn
    as a whole keeps its size as `size_over` says, or whenever exactly its size is requested.
    """
    factor = networks.traits.multiple
    width = height = networks.traits.side
    requested, source = (request.width, request.height), request.source
    if source is not None and not source.only_masked:
        picture = source.image.size
        if requested == picture:
            return whole_latents(picture, factor), FILLED
        drawn, framing = size_over(picture, (width, height), factor, masked=source.mask is not None)
        if requested == (None, None):
            return drawn, framing
        width, height = drawn
    width = width if request.width is None else request.width
    return (width, height if request.height is None else request.height), FITTED


def check_size(networks: Networks, width: int, height: int) -> None:
    """Raise InvalidRequest, naming the nearest sizes, for sides that are not whole latent pixels."""
    factor = networks.traits.multiple
    for name, side in (("width", width), ("height", height)):
        if side % factor:
            low = side // factor * factor
            near = f"{low} or {low + factor}" if low else f"{factor}"
            raise InvalidRequest(f"{name} is {side}; this model draws multiples of {factor}: try {near}")


def guided(networks: Networks, request: Settled) -> bool:
    """Whether the negative prompt is evaluated. A model that takes the guidance scale does not need it."""
    return request.cfg_scale != 1 and not networks.traits.takes_guidance


def prompts_of_passes(
    networks: Networks, request: Settled, later: Networks | None = None, prompts: Prompts | None = None
) -> tuple[list[StepPrompts], list[StepPrompts]]:
    """Return the prompts at each step of the first pass, and of the second if there is one.

    later: the networks of the second pass; None means the same. prompts: of the request; None parses them.
    """
    parsed = parse_prompts(request) if prompts is None else prompts
    steps, share = request.steps, 0.0 if request.blend is None else request.blend.share
    first = prompts_of_steps(
        parsed.prompt,
        parsed.negative,
        steps,
        guided=guided(networks, request),
        blend=parsed.blend,
        share=share,
    )
    if request.hires is None:
        return first, []
    from pochade.generation.pass_settings import second_request

    own = second_request(request)
    second = prompts_of_steps(
        parsed.second,
        parsed.second_negative,
        own.steps,
        guided=guided(networks if later is None else later, own),
        first_pass_steps=steps,
        blend=parsed.blend,
        share=share,
    )
    return first, second


def refiner_path(request: Settled, roots: Sequence[Path]) -> Path | None:
    """Return the path of the refiner, if it has any steps to do. Raises InvalidCheckpoint."""
    if request.refiner is None or request.refiner.switch == 1:
        return None
    return library.find(request.refiner.model, roots)


def network_load(context: GenerationContext, request: Settled, prompts: Prompts) -> NetworkLoad:
    """Estimate what a request needs from the networks."""
    model, last = context.model, context.last.model
    size = larger = request.width, request.height
    auxiliary_weights = [Path(each.model) for each in request.controls]
    refiner = refiner_path(request, context.roots)
    if refiner is not None:
        auxiliary_weights.append(refiner)
    if request.hires is not None:
        from pochade.generation.pass_settings import size_of_second_pass

        larger = size_of_second_pass(request, request.hires, model.networks.traits.multiple)
        # The second pass may use the same model.
        if request.hires.model is not None and last.checkpoint is not model.checkpoint:
            auxiliary_weights.append(Path(request.hires.model))
    steered = [each for each in request.controls if each.strength > 0]
    forms = 2 if any((each.start, each.end) != (0, 1) for each in steered) else 1
    first, second = prompts_of_passes(model.networks, request, prompts=prompts)
    step_prompts = list(dict.fromkeys([*first, *second]))
    shapes = context_shapes(model.networks.family, model.tokenizers, step_prompts, request.emphasis)
    texts = {(rows, model.networks.unet.tokens_side(length)) for rows, length in shapes}
    # Adapters change weights, but for LoRAs that graphs take as inputs.
    unets = [each.networks.unet for each in (model, last)]
    return NetworkLoad(
        width=larger[0],
        height=larger[1],
        rows=max(len(each.parts) + (each.negative is not None) for each in step_prompts),
        encodes=request.source is not None or request.hires is not None,
        adapted=len({id(unet) for unet in unets if unet.adapted}),
        sizes=1 if larger == size else 2,
        forms=forms * len(texts),
        auxiliary_weights=sum(map(library.weights_of, auxiliary_weights)),
    )
