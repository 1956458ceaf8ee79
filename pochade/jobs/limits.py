"""Limits of a request. They are set when the server is started."""

from collections.abc import Sequence
from dataclasses import dataclass

from pochade.errors import InvalidRequest, expect
from pochade.jobs.job_request import JobRequest, JobSource
from pochade.jobs.orders import UPSCALE, Order, Upscale
from pochade.prompts.extra_networks import extra_networks

FACTOR = 8
"""Pixels per latent pixel, for nearly all models; the worker checks again with the model's own factor."""

TOGETHER = 4
"""All pictures sent with a job, which are decoded together, may have this many times the pixels of one."""

LARGEST_SEED = 2**63 - 1
"""The largest seed that the database can store."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits. body_bytes: of a request. pixels: of a drawn picture. picture_pixels: of a sent picture.

    pictures: of one job. loras: in one prompt. queue, own_queue: waiting or running jobs, of all users and of
    one.
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
    """The queue is full; a later attempt may succeed."""


def check(
    order: Order, limits: Limits, usual: tuple[int, int], sizes: Sequence[tuple[int, int]] = ()
) -> tuple[int, int]:
    """Check an order, whose types are valid; return the width and height that will be drawn, px.

    usual: the model's native size, px. sizes: of the pictures sent with the order, px. Raises InvalidRequest,
    naming the field, if a limit is exceeded.
    """
    request = order.request
    pixels = sum(width * height for width, height in sizes)
    if pixels > TOGETHER * limits.picture_pixels:
        raise InvalidRequest(
            f"{len(sizes)} pictures of {pixels:,} px together were sent; at most"
            f" {TOGETHER * limits.picture_pixels:,} px are accepted in one job"
        )
    if order.upscale is not None and order.kind == UPSCALE:
        check_upscale(order.upscale, *sizes[order.upscale.image], limits)
        return usual
    assert request.steps is not None  # settled
    expect("steps", request.steps, 1, limits.steps)
    expect("batch_size", request.batch_size, 1, limits.batch_size)
    if order.pictures > limits.pictures:
        raise InvalidRequest(
            f"batch_size {request.batch_size} times count {order.count} makes {order.pictures} pictures;"
            f" at most {limits.pictures} are allowed in one job"
        )
    check_prompts(request, limits)
    _check_seeds(order)
    width, height = _drawn_size(request, usual, sizes, limits)
    check_sides(width, height, limits)
    for control in request.controls:
        if control.resolution is not None:
            scale = control.resolution / min(width, height)
            sides = round(width * scale), round(height * scale)
            _check_pixels("the picture for a preprocessor", *sides, limits)
    hires = request.hires
    if hires is not None:
        expect("hires steps", hires.steps or 1, 1, limits.steps)
        check_second(width, height, hires.size, hires.scale, limits)
    return width, height


def check_prompts(request: JobRequest, limits: Limits) -> None:
    """Check the prompts' lengths and numbers of LoRAs, including those of a second pass. Raises
    InvalidRequest."""
    for name, text in texts_of(request).items():
        if len(text) > limits.prompt_characters:
            raise InvalidRequest(
                f"{name} has {len(text):,} characters; at most {limits.prompt_characters:,} are allowed"
            )
        count = len(extra_networks(text)[1])
        if count > limits.loras:
            raise InvalidRequest(f"{name} has {count:,} LoRAs; at most {limits.loras} are allowed")


def check_sides(width: int, height: int, limits: Limits) -> None:
    """Check the sides of a picture to draw, px. Raises InvalidRequest."""
    for name, side in (("width", width), ("height", height)):
        expect(name, side, 8, limits.side)
    _check_pixels("the picture", width, height, limits)


def check_second(
    width: int, height: int, size: Sequence[int] | None, scale: float | None, limits: Limits
) -> None:
    """Check the sides of a second pass over width x height px, to `size` or by `scale`. Raises
    InvalidRequest."""
    scale = 2.0 if scale is None else scale
    larger = (int(width * scale), int(height * scale)) if size is None else (size[0], size[1])
    for name, side in zip(("width", "height"), larger, strict=True):
        expect(f"{name} of the second pass", side, 8, limits.side)
    _check_pixels("the second pass", *larger, limits)


def texts_of(request: JobRequest) -> dict[str, str]:
    """Return the prompts of a request, including those of its second pass, by name."""
    texts = {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
    if request.hires is not None:
        own = {"hires.prompt": request.hires.prompt, "hires.negative_prompt": request.hires.negative_prompt}
        texts |= {name: text for name, text in own.items() if text}
    return texts


def _check_seeds(order: Order) -> None:
    """Check that the seeds of all pictures are within bounds."""
    request = order.request
    second = None if request.variation is None else request.variation.seed
    for name, seed in (("seed", request.seed), ("variation seed", second)):
        if seed is not None and not 0 <= seed <= LARGEST_SEED - (order.pictures - 1):
            raise InvalidRequest(
                f"{name} is {seed}; {order.pictures} picture{'s' if order.pictures > 1 else ''} can be drawn"
                f" with seeds from 0 to {LARGEST_SEED - (order.pictures - 1)} (2^63 - {order.pictures})"
            )


def check_size(width: int, height: int, limits: Limits) -> None:
    """Check the size of a picture that was sent, px, before it is decoded. Raises InvalidRequest."""
    if width * height > limits.picture_pixels:
        raise InvalidRequest(
            f"a picture of {width} x {height} px was sent; at most {limits.picture_pixels:,} px are accepted"
        )


def check_upscale(upscale: Upscale, width: int, height: int, limits: Limits) -> None:
    """Check an upscaling order. width, height: of the picture to enlarge, px."""
    sides = upscale.sides(width, height)
    for side in sides:
        expect("side of the larger picture", side, 1, limits.side)
    if sides[0] * sides[1] > limits.picture_pixels:
        raise InvalidRequest(
            f"the larger picture would have {sides[0]} x {sides[1]} px; at most {limits.picture_pixels:,}"
            " px are allowed"
        )


def _drawn_size(
    request: JobRequest, usual: tuple[int, int], sizes: Sequence[tuple[int, int]], limits: Limits
) -> tuple[int, int]:
    """Return the width and height that will be drawn, px, as in `settle.size_of`. usual, sizes: see
    `check`."""
    from pochade.generation.sizes import size_over, whole_latents

    width, height = request.width, request.height
    source = None if request.source is None else _source_size(request.source, sizes, limits)
    if request.source is not None and source is not None:
        if source == (width, height):
            return whole_latents(source, FACTOR)
        usual = size_over(source, usual, FACTOR, masked=request.source.masked)[0]
    return usual[0] if width is None else width, usual[1] if height is None else height


def _source_size(
    source: JobSource, sizes: Sequence[tuple[int, int]], limits: Limits
) -> tuple[int, int] | None:
    """Return the size of the source picture with its margins, px; None if only a part of it is drawn."""
    width, height = sizes[source.image]
    margins = source.outpaint
    if margins:
        width += margins.left + margins.right
        height += margins.top + margins.bottom
        if width * height > limits.picture_pixels:
            raise InvalidRequest(
                f"with its margins the picture would have {width} x {height} px; at most"
                f" {limits.picture_pixels:,} px are accepted"
            )
    return None if source.only_masked else (width, height)


def _check_pixels(what: str, width: int, height: int, limits: Limits) -> None:
    if width * height > limits.pixels:
        raise InvalidRequest(
            f"{what} would have {width} x {height} px; at most {limits.pixels:,} pixels are allowed"
        )
