"""An order that is handed in: settled, checked and kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pochade.errors import InvalidRequest
from pochade.images.opening import opened, read_picture
from pochade.jobs import cost, limits, orders, store
from pochade.jobs.catalogue import Catalogue
from pochade.jobs.database import Database
from pochade.jobs.limits import Limits
from pochade.jobs.orders import Order
from pochade.jobs.places import Places, drop_inputs, keep_input
from pochade.jobs.pricing import expected_work
from pochade.jobs.records import Job
from pochade.request import open_ones


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An order with what else a client says. inputs: the content of picture files, by their numbers.

    left_out: names of what the client sent and the dialect does not know, which is told in its reply.
    """

    order: Order
    inputs: Sequence[bytes] = ()
    styles: Sequence[str] = ()
    lane: str = "interactive"
    label: str = ""
    left_out: Sequence[str] = ()


class Stopping(InvalidRequest):
    """The server is about to stop and takes no more."""


def settled(asked: Asked, catalogue: Catalogue, random: Callable[[int], str]) -> Order:
    """With nothing left open: model, usual settings, styles, seed. Raises InvalidRequest for names.

    random: as `secrets.token_hex`.
    """
    order, request = asked.order, dict(asked.order.request)
    model = catalogue.model(order.model).name
    prompt, negative = catalogue.styled(
        request.get("prompt", ""), request.get("negative_prompt", ""), asked.styles
    )
    request |= {"prompt": prompt, "negative_prompt": negative}
    if request.get("hires") is not None:
        request["hires"] = _settled_hires(request["hires"], model, asked, catalogue)
    for text in limits.texts_of(request).values():
        catalogue.check_prompt(text)
    request |= open_ones(request, catalogue.usual(model, prompt, negative))
    if request.get("seed") is None:
        request["seed"] = int(random(4), 16)
    return replace(order, model=model, request=request)


def _settled_hires(
    given: Mapping[str, Any], model: str, asked: Asked, catalogue: Catalogue
) -> dict[str, Any]:
    """A second pass with the styles around its own prompts, and its own model's name as the catalogue has
    it. model: of the first pass."""
    hires = dict(given)
    own, negative = hires.get("prompt"), hires.get("negative_prompt")
    styled = catalogue.styled(own or "", negative or "", asked.styles)
    hires["prompt"] = None if own is None else styled[0]
    hires["negative_prompt"] = None if negative is None else styled[1]
    if hires.get("model") is not None:
        name = catalogue.model(hires["model"]).name
        hires["model"] = None if name == model else name
    return hires


def check(order: Order, inputs: Sequence[bytes], catalogue: Catalogue, allowed: Limits) -> None:
    """Everything that the worker would complain of, as far as it can be known here. Raises InvalidRequest.

    It decodes the pictures, which takes time and memory.
    """
    from pochade.diffusion.samplers import find_sampler
    from pochade.diffusion.schedule import find_schedule, split_sampler_name
    from pochade.images.preprocessors import find_preprocessor

    def fetch(number: int) -> Any:
        return read_picture(inputs[number])

    for content in inputs:
        check_picture(content, allowed)
    if order.upscale is not None:
        catalogue.upscaler(order.upscale.upscaler)
        picture = fetch(order.upscale.image)
        limits.check_upscale(order.upscale, picture.width, picture.height, allowed)
        return
    request = orders.request_of(order, fetch, catalogue)
    assert request.sampler is not None and request.schedule is not None
    hires = request.hires
    samplers = (request.sampler, None if hires is None else hires.sampler)
    for sampler in (each for each in samplers if each is not None):
        find_sampler(split_sampler_name(sampler)[0])
    for schedule in (request.schedule, None if hires is None else hires.schedule):
        if schedule is not None:
            find_schedule(schedule)
    for control in request.controls:
        find_preprocessor(control.preprocessor)
    if request.source is not None:
        limits.check_size(request.source.image.width, request.source.image.height, allowed)
    if order.expand:
        first = next(orders.batches(order, request, catalogue))
        own = first.hires
        texts = [first.prompt, first.negative_prompt]
        texts += [] if own is None else [own.prompt or "", own.negative_prompt or ""]
        for text in texts:
            catalogue.check_prompt(text)


def check_picture(content: bytes, allowed: Limits) -> None:
    """Raises InvalidRequest for what is no picture, or too large, before it is decoded."""
    with opened(content) as image:
        limits.check_size(image.width, image.height, allowed)


def keep(
    database: Database,
    places: Places,
    job: Job,
    order: Order,
    inputs: Sequence[bytes],
    usual: tuple[int, int],
    model_bytes: int,
) -> Job:
    """Files first, then the row; the job with its predicted cost. If this fails, nothing is left.

    usual: width and height that the model draws if none are given, px.
    """
    predicted = cost.predict(database, order.model, expected_work(order, usual), model_bytes)
    job = replace(job, cost=predicted)
    try:
        for number, content in enumerate(inputs):
            keep_input(places, job.id, number, content)
        store.accept(database, job, orders.words(order))
    except BaseException:
        drop_inputs(places, job.id)
        raise
    return job
