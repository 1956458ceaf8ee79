"""How much one may ask for. Whoever starts the server may change it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pochade.errors import InvalidRequest, expect
from pochade.jobs.orders import UPSCALE, Order, Upscale
from pochade.prompts.extra_networks import extra_networks

FACTOR = 8
"""Pixels for a latent one, of nearly all models; the worker looks again with the model's own."""

TOGETHER = 4
"""All pictures of a job, which are decoded together, may have so many times the pixels of a single one."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """body_bytes: of a request. pixels: of a picture that is drawn. picture_pixels: of one that is sent.

    pictures: of one job. loras: that one prompt asks for. queue, own_queue: jobs that wait or run, of all
    and of one user.
    """

    body_bytes: int = 64 * 2**20
    pixels: int = 2048 * 2048
    picture_pixels: int = 32 * 2**20
    side: int = 8192
    steps: int = 150
    batch_size: int = 16
    pictures: int = 64
    queue: int = 5000
    own_queue: int = 1000
    prompt_characters: int = 20_000
    loras: int = 32


class QueueFull(InvalidRequest):
    """There are too many jobs already; later there may be fewer."""


def check(
    order: Order, limits: Limits, usual: tuple[int, int], sizes: Sequence[tuple[int, int]] = ()
) -> tuple[int, int]:
    """Width and height, px, that will be drawn. The types were checked before.

    usual: what the model draws if no size is given, px. sizes: of the pictures that came with the order, px.
    Raises InvalidRequest, naming the field, for more than is allowed.
    """
    from pochade.images.fitting import drawn_size

    request = order.request
    pixels = sum(width * height for width, height in sizes)
    if pixels > TOGETHER * limits.picture_pixels:
        raise InvalidRequest(
            f"{len(sizes)} pictures of {pixels:,} px together were sent; at most"
            f" {TOGETHER * limits.picture_pixels:,} px are taken in one job"
        )
    if order.upscale is not None and order.kind == UPSCALE:
        check_upscale(order.upscale, *sizes[order.upscale.image], limits)
        return usual
    expect("steps", request["steps"], 1, limits.steps)
    expect("batch_size", request["batch_size"], 1, limits.batch_size)
    if order.pictures > limits.pictures:
        raise InvalidRequest(
            f"batch_size {request['batch_size']} times count {order.count} are {order.pictures} pictures;"
            f" at most {limits.pictures} are drawn in one job"
        )
    check_prompts(request, limits)
    width, height = drawn_size(usual, _source_size(request.get("source"), sizes, limits), FACTOR)
    width = width if request.get("width") is None else request["width"]
    height = height if request.get("height") is None else request["height"]
    check_sides(width, height, limits)
    hires = request.get("hires")
    if hires is not None:
        expect("hires steps", hires.get("steps") or 1, 1, limits.steps)
        check_second(width, height, hires.get("size"), hires.get("scale"), limits)
    return width, height


def check_prompts(request: Mapping[str, Any], limits: Limits) -> None:
    """Their lengths, and how many LoRAs they ask for. Raises InvalidRequest."""
    for name in ("prompt", "negative_prompt"):
        text = request.get(name, "")
        if len(text) > limits.prompt_characters:
            raise InvalidRequest(
                f"{name} has {len(text):,} characters; at most {limits.prompt_characters:,} are taken"
            )
        count = len(extra_networks(text)[1])
        if count > limits.loras:
            raise InvalidRequest(f"{name} asks for {count:,} LoRAs; at most {limits.loras} are taken")


def check_sides(width: int, height: int, limits: Limits) -> None:
    """Of a picture that is drawn, px. Raises InvalidRequest."""
    for name, side in (("width", width), ("height", height)):
        expect(name, side, 8, limits.side)
    _check_pixels("the picture", width, height, limits)


def check_second(
    width: int, height: int, size: Sequence[int] | None, scale: float | None, limits: Limits
) -> None:
    """Of a second pass over width x height px, to `size` or by `scale`. Raises InvalidRequest."""
    scale = 2.0 if scale is None else scale
    larger = (round(width * scale), round(height * scale)) if size is None else (size[0], size[1])
    for name, side in zip(("width", "height"), larger, strict=True):
        expect(f"{name} of the second pass", side, 8, limits.side)
    _check_pixels("the second pass", *larger, limits)


def check_size(width: int, height: int, limits: Limits) -> None:
    """Of a picture that is sent, px, before it is decoded. Raises InvalidRequest."""
    if width * height > limits.picture_pixels:
        raise InvalidRequest(
            f"a picture of {width} x {height} px was sent; at most {limits.picture_pixels:,} px are taken"
        )


def check_upscale(upscale: Upscale, width: int, height: int, limits: Limits) -> None:
    """width, height: of the picture that is to be made larger, px."""
    sides = upscale.sides(width, height)
    for side in sides:
        expect("side of the larger picture", side, 1, limits.side)
    if sides[0] * sides[1] > limits.picture_pixels:
        raise InvalidRequest(
            f"the larger picture would have {sides[0]} x {sides[1]} px; at most {limits.picture_pixels:,}"
            " px are made"
        )


def _source_size(
    source: Mapping[str, Any] | None, sizes: Sequence[tuple[int, int]], limits: Limits
) -> tuple[int, int] | None:
    """Of the picture that is drawn over, its margins included, px; None where only a part of it is drawn."""
    if source is None:
        return None
    width, height = sizes[source["image"]]
    margins = source.get("outpaint")
    if margins:
        width += (margins.get("left") or 0) + (margins.get("right") or 0)
        height += (margins.get("top") or 0) + (margins.get("bottom") or 0)
        if width * height > limits.picture_pixels:
            raise InvalidRequest(
                f"with its margins the picture would have {width} x {height} px; at most"
                f" {limits.picture_pixels:,} px are taken"
            )
    return None if source.get("only_masked") else (width, height)


def _check_pixels(what: str, width: int, height: int, limits: Limits) -> None:
    if width * height > limits.pixels:
        raise InvalidRequest(
            f"{what} would have {width} x {height} px; at most {limits.pixels:,} pixels are drawn"
        )
