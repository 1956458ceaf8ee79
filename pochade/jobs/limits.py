"""How much one may ask for. Whoever starts the server may change it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pochade.errors import InvalidRequest, expect
from pochade.jobs.orders import UPSCALE, Order, Upscale

LARGEST_SEED = 2**63 - 1
"""Of any picture: what the database stores."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """body_bytes: of a request. pixels: of a picture that is drawn. picture_pixels: of one that is sent.

    pictures: of one job. queue, own_queue: jobs that wait or run, of all and of one user.
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


class QueueFull(InvalidRequest):
    """There are too many jobs already; later there may be fewer."""


def check(order: Order, limits: Limits, usual: tuple[int, int]) -> None:
    """Raises InvalidRequest, naming the field, for more than is allowed. The types were checked before.

    usual: what the model draws if no size is given, px.
    """
    request = order.request
    if order.kind == UPSCALE:
        return
    expect("steps", request["steps"], 1, limits.steps)
    expect("batch_size", request["batch_size"], 1, limits.batch_size)
    if order.pictures > limits.pictures:
        raise InvalidRequest(
            f"batch_size {request['batch_size']} times count {order.count} are {order.pictures} pictures;"
            f" at most {limits.pictures} are drawn in one job"
        )
    for name, text in texts_of(request).items():
        if len(text) > limits.prompt_characters:
            raise InvalidRequest(
                f"{name} has {len(text):,} characters; at most {limits.prompt_characters:,} are taken"
            )
    _check_seeds(order)
    width = usual[0] if request.get("width") is None else request["width"]
    height = usual[1] if request.get("height") is None else request["height"]
    for name, side in (("width", width), ("height", height)):
        expect(name, side, 8, limits.side)
    _check_pixels("the picture", width, height, limits)
    for control in request.get("controls") or ():
        if control.get("resolution") is not None:
            scale = control["resolution"] / min(width, height)
            sides = round(width * scale), round(height * scale)
            _check_pixels("the picture that a preprocessor looks at", *sides, limits)
    hires = request.get("hires")
    if hires is not None:
        expect("hires steps", hires.get("steps") or 1, 1, limits.steps)
        if hires.get("size") is not None:
            _check_pixels("the second pass", hires["size"][0], hires["size"][1], limits)
        else:
            scale = 2.0 if hires.get("scale") is None else hires["scale"]
            _check_pixels("the second pass", round(width * scale), round(height * scale), limits)


def texts_of(request: Mapping[str, Any]) -> dict[str, str]:
    """The prompts of an order's request, those of its second pass too, by what they are called."""
    hires = request.get("hires") or {}
    own = {f"hires.{name}": hires[name] for name in ("prompt", "negative_prompt") if hires.get(name)}
    return {name: request.get(name) or "" for name in ("prompt", "negative_prompt")} | own


def _check_seeds(order: Order) -> None:
    """The last picture's seed too must be one that can be drawn with and stored."""
    variation = order.request.get("variation") or {}
    for name, seed in (("seed", order.request.get("seed")), ("variation seed", variation.get("seed"))):
        if seed is not None and not 0 <= seed <= LARGEST_SEED - (order.pictures - 1):
            raise InvalidRequest(
                f"{name} is {seed}; {order.pictures} picture{'s' if order.pictures > 1 else ''} can be drawn"
                f" with seeds from 0 to {LARGEST_SEED - (order.pictures - 1)} (2^63 - {order.pictures})"
            )


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


def _check_pixels(what: str, width: int, height: int, limits: Limits) -> None:
    if width * height > limits.pixels:
        raise InvalidRequest(
            f"{what} would have {width} x {height} px; at most {limits.pixels:,} pixels are drawn"
        )
