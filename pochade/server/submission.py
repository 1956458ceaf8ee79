"""Submitted orders: resolving defaults, checking, storing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pochade.errors import InvalidRequest
from pochade.images.decode import read_picture, size_in_header
from pochade.jobs import cost, limits, orders, store
from pochade.jobs.catalogue import Catalogue
from pochade.jobs.database import Database
from pochade.jobs.idempotency import IdempotencyKey
from pochade.jobs.limits import Limits
from pochade.jobs.orders import Order
from pochade.jobs.pricing import expected_work
from pochade.jobs.records import Job
from pochade.jobs.storage import Storage, drop_inputs, keep_input
from pochade.prompts.comments import without_comments
from pochade.request import missing_fields
from pochade.request_options import Hires


@dataclass(frozen=True, kw_only=True)
class SubmittedOrder:
    """An order as submitted by a client. inputs: the contents of picture files, by number.

    comments: whether # to the end of a line is a comment in prompts; removed after styles are applied.
    left_out: names of unknown fields that the client sent, for the reply.
    """

    order: Order
    inputs: Sequence[bytes] = ()
    styles: Sequence[str] = ()
    lane: str = "interactive"
    label: str = ""
    left_out: Sequence[str] = ()
    comments: bool = False


class Conflict(InvalidRequest):
    """The requested operation is already in progress."""


class Stopping(InvalidRequest):
    """The server is shutting down and accepts no more jobs."""


def settled(
    submitted: SubmittedOrder, catalogue: Catalogue, random: Callable[[int], str], allowed: Limits
) -> Order:
    """Resolve model, defaults, styles and seed. Raises InvalidRequest for unknown names.

    It may scan folders, which takes time. random: as `secrets.token_hex`.
    """
    order, request = submitted.order, submitted.order.request
    limits.check_prompts(request, allowed)  # before they are parsed
    model = catalogue.model(order.model).name
    prompt, negative = catalogue.styled(request.prompt, request.negative_prompt, submitted.styles)
    plain = without_comments if submitted.comments else str
    prompt, negative = plain(prompt), plain(negative)
    hires = None if request.hires is None else _settled_hires(request.hires, model, submitted, catalogue)
    request = replace(request, prompt=prompt, negative_prompt=negative, hires=hires)
    limits.check_prompts(request, allowed)
    for text in limits.texts_of(request).values():
        catalogue.check_prompt(text)
    missing = missing_fields(vars(request), catalogue.defaults(model, prompt, negative))
    seed = int(random(4), 16) if request.seed is None else request.seed
    return replace(order, model=model, request=replace(request, seed=seed, **missing))


def _settled_hires(given: Hires, model: str, submitted: SubmittedOrder, catalogue: Catalogue) -> Hires:
    """Apply the styles to the second pass' own prompts, and resolve the name of its own model.

    model: of the first pass.
    """
    prompt, negative = catalogue.styled(given.prompt or "", given.negative_prompt or "", submitted.styles)
    plain = without_comments if submitted.comments else str
    own = None if given.model is None else catalogue.model(str(given.model)).name
    return replace(
        given,
        prompt=None if given.prompt is None else plain(prompt),
        negative_prompt=None if given.negative_prompt is None else plain(negative),
        model=None if own == model else own,
    )


def check(
    order: Order, inputs: Sequence[bytes], catalogue: Catalogue, allowed: Limits, native_size: tuple[int, int]
) -> tuple[int, int]:
    """Check everything that the worker would reject, as far as possible; return the drawn size, px.

    First the sizes in the pictures' headers, then all limits; only then are the pictures decoded, which takes
    time and memory. native_size: of the model, px. Raises InvalidRequest.
    """
    from pochade.diffusion.samplers import find_sampler
    from pochade.diffusion.schedule import find_schedule, split_sampler_name
    from pochade.images.preprocessors import find_preprocessor

    sizes = [check_picture(content, allowed) for content in inputs]
    header_sizes = tuple(sizes)

    def fetch(number: int) -> Any:
        picture = read_picture(inputs[number])
        sizes[number] = picture.size
        return picture

    size = limits.check(order, allowed, native_size, sizes)
    if order.upscale is not None:
        catalogue.upscaler(order.upscale.upscaler)
        fetch(order.upscale.image)
        return size if header_sizes == tuple(sizes) else limits.check(order, allowed, native_size, sizes)
    request = orders.request_of(order, fetch, catalogue)
    if header_sizes != tuple(sizes):  # a rotation that is stored after the pixels
        size = limits.check(order, allowed, native_size, sizes)
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
    if order.expand:
        first = next(orders.batches(order, request, catalogue))
        expanded = replace(
            order.request,
            prompt=first.prompt,
            negative_prompt=first.negative_prompt,
            hires=first.hires,
        )
        limits.check_prompts(expanded, allowed)
        for text in limits.texts_of(expanded).values():
            catalogue.check_prompt(text)
    return size


def check_picture(content: bytes, allowed: Limits) -> tuple[int, int]:
    """Return width and height, px, from the header.

    Raises InvalidRequest if it is not a picture or too large.
    """
    width, height = size_in_header(content)
    limits.check_size(width, height, allowed)
    return width, height


def keep(
    database: Database,
    storage: Storage,
    job: Job,
    order: Order,
    inputs: Sequence[bytes],
    size: tuple[int, int],
    model_bytes: int,
    once: IdempotencyKey | None = None,
) -> Job:
    """Write the files, then the row; return the job with its predicted cost. On failure nothing is left.

    size: width and height that will be drawn, px. once: see `store.accept`, which may raise.
    """
    predicted = cost.predict(database, order.model, expected_work(order, size), model_bytes)
    job = replace(job, cost=predicted)
    try:
        for number, content in enumerate(inputs):
            keep_input(storage, job.id, number, content)
        store.accept(database, job, orders.words(order), once)
    except BaseException:
        drop_inputs(storage, job.id)
        raise
    return job
