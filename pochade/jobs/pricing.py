"""Converts an order into the amount of work, which `cost` turns into seconds."""

from collections.abc import Sequence

from pochade.checkpoints.readers import likely_side
from pochade.diffusion.samplers import find_sampler
from pochade.diffusion.schedule import split_sampler_name
from pochade.jobs.cost import Work
from pochade.jobs.orders import UPSCALE, Order
from pochade.jobs.records import FinishedPicture
from pochade.request import DEFAULTS

UNKNOWN_SIZE = (512, 512)
"""The native size assumed for a model that was never loaded, px."""


def likely_size(family: str) -> tuple[int, int]:
    """Return the assumed native size of a model of this family that was never loaded, px."""
    side = likely_side(family)
    return UNKNOWN_SIZE if side is None else (side, side)


def expected_work(order: Order, usual: tuple[int, int] = UNKNOWN_SIZE) -> Work:
    """Return the work of an order. usual: the model's native size, px."""
    request = order.request
    width = usual[0] if request.width is None else request.width
    height = usual[1] if request.height is None else request.height
    return _work(order, width, height, order.pictures)


def work_of(order: Order, drawn: Sequence[FinishedPicture]) -> Work | None:
    """Return the work that was done; None if its duration is not representative."""
    if (
        order.kind == UPSCALE
        or not drawn
        or order.request.source is not None
        or order.request.hires is not None
    ):
        return None  # sizes and steps differ from the request
    return _work(order, drawn[0].width, drawn[0].height, len(drawn))


def _work(order: Order, width: int, height: int, count: int) -> Work:
    if order.kind == UPSCALE:
        return Work(width=width, height=height, evaluations=1.0, count=1)
    request, source, hires = order.request, order.request.source, order.request.hires
    sampler = find_sampler(split_sampler_name(request.sampler or DEFAULTS.sampler)[0])
    rows = 1 if request.cfg_scale == 1 else 2
    whole = DEFAULTS.steps if request.steps is None else request.steps
    steps = float(whole)
    if source is not None:
        strength = 0.75 if source.denoising_strength is None else source.denoising_strength
        steps = max(1.0, steps * strength)
    evaluations = steps * sampler.evaluations * rows
    if hires is not None:
        area = hires.scale**2
        if hires.size is not None:
            area = hires.size[0] * hires.size[1] / (width * height)
        more = whole if hires.steps is None else hires.steps
        second = sampler if hires.sampler is None else find_sampler(split_sampler_name(hires.sampler)[0])
        second_rows = rows if hires.cfg_scale is None else 1 if hires.cfg_scale == 1 else 2
        if hires.denoising_strength == 0:
            more = 0  # the picture is only enlarged
        evaluations += more * second.evaluations * second_rows * area
    return Work(width=width, height=height, evaluations=evaluations, count=count)
