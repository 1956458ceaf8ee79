"""Converts an order into the amount of work, which `cost` turns into seconds."""

from collections.abc import Sequence
from typing import Any

from pochade.checkpoints.readers import likely_side
from pochade.diffusion.samplers import find_sampler
from pochade.diffusion.schedule import split_sampler_name
from pochade.jobs.cost import Work
from pochade.jobs.orders import UPSCALE, Order
from pochade.jobs.records import FinishedPicture

UNKNOWN_SIZE = (512, 512)
"""The native size assumed for a model that was never loaded, px."""


def likely_size(family: str) -> tuple[int, int]:
    """Return the assumed native size of a model of this family that was never loaded, px."""
    side = likely_side(family)
    return UNKNOWN_SIZE if side is None else (side, side)


def expected_work(order: Order, usual: tuple[int, int] = UNKNOWN_SIZE) -> Work:
    """Return the work of an order. usual: the model's native size, px."""
    request = order.request
    width = usual[0] if request.get("width") is None else request["width"]
    height = usual[1] if request.get("height") is None else request["height"]
    return _work(order, width, height, order.pictures)


def work_of(order: Order, drawn: Sequence[FinishedPicture]) -> Work | None:
    """Return the work that was done; None if its duration is not representative."""
    if (
        order.kind == UPSCALE
        or not drawn
        or order.request.get("source") is not None
        or order.request.get("hires") is not None
    ):
        return None  # sizes and steps differ from the request
    return _work(order, drawn[0].width, drawn[0].height, len(drawn))


def _work(order: Order, width: int, height: int, count: int) -> Work:
    if order.kind == UPSCALE:
        return Work(width=width, height=height, evaluations=1.0, count=1)
    request = order.request
    sampler = find_sampler(split_sampler_name(request.get("sampler", "Euler"))[0])
    halves = 1 if request.get("cfg_scale", 7.0) == 1 else 2
    steps = float(request.get("steps", 20))
    source, hires = request.get("source"), request.get("hires")
    if source is not None:
        steps = max(1.0, steps * _number(source, "denoising_strength", 0.75))
    evaluations = steps * sampler.evaluations * halves
    if hires is not None:
        scale = _number(hires, "scale", 2.0) ** 2
        if hires.get("size") is not None:
            scale = hires["size"][0] * hires["size"][1] / (width * height)
        more = request.get("steps", 20) if hires.get("steps") is None else hires["steps"]
        own = hires.get("sampler")
        second = sampler if own is None else find_sampler(split_sampler_name(own)[0])
        again = halves if hires.get("cfg_scale") is None else 1 if hires["cfg_scale"] == 1 else 2
        if _number(hires, "denoising_strength", 0.7) == 0:
            more = 0  # the picture is only enlarged
        evaluations += more * second.evaluations * again * scale
    return Work(width=width, height=height, evaluations=evaluations, count=count)


def _number(values: dict[str, Any], name: str, otherwise: float) -> float:
    value = values.get(name)
    return otherwise if value is None else float(value)
