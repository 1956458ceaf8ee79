"""Orders: what a job draws, stored as JSON, and their conversion to requests."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pochade.errors import InvalidRequest, expect
from pochade.jobs.job_request import JobControl, JobRequest, JobSource, read_job_request
from pochade.request import Request
from pochade.request_options import Control, Hires, Source

if TYPE_CHECKING:
    from PIL import Image

TXT2IMG, IMG2IMG, INPAINT, UPSCALE = "txt2img", "img2img", "inpaint", "upscale"
KINDS = (TXT2IMG, IMG2IMG, INPAINT, UPSCALE)
PULL = "pull"
"""The kind of a model download, which has a separate worker and cannot be submitted as a drawing."""

NOT_DRAWN = ("blend", "refiner")
"""Fields of `Request` that jobs do not support. They are refused, since ignoring them would change the
picture."""
MAX_SCALE = 8.0

Fetch = Callable[[int], "Image.Image"]
"""Returns the picture with this number."""


class Names(Protocol):
    """Resolves names to values of `Request`. Raises InvalidRequest for unknown names."""

    def upscaler(self, name: str) -> str: ...
    def controlnet(self, name: str) -> str: ...
    def checkpoint(self, name: str) -> str: ...
    def expanded(self, template: str, seed: int, purpose: str) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Upscale:
    """Upscaling of a picture: by `scale`, or to `size` (width, height), px, cropped to it with `crop`."""

    image: int
    scale: float = 2.0
    size: tuple[int, int] | None = None
    crop: bool = False
    upscaler: str = "Lanczos"

    def __post_init__(self) -> None:
        expect("scale", self.scale, 1.0, MAX_SCALE)

    def sides(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height, px, of an upscaled picture of this size, before it is cropped."""
        if self.size is None:
            return max(1, round(width * self.scale)), max(1, round(height * self.scale))
        if not self.crop:
            return self.size
        scale = max(self.size[0] / width, self.size[1] / height)
        return max(1, round(width * scale)), max(1, round(height * scale))


@dataclass(frozen=True, kw_only=True)
class PullOrder:
    """A model download. licence: the accepted one, as named by the hub, or "". commit: "" is the newest."""

    licence: str
    commit: str = ""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A job to draw, or a model to download. count: how often a batch is drawn.

    expand: whether the prompts are templates. partials: the number of requested partial images in full size.
    dialect: the API that it was submitted through, which may interrupt it; "" if unknown.
    pull: of a model download, whose short name is `model`; it has no request.
    """

    kind: str
    model: str
    request: JobRequest = field(default_factory=JobRequest)
    upscale: Upscale | None = None
    count: int = 1
    expand: bool = False
    preview: bool = True
    partials: int = 0
    dialect: str = ""
    pull: PullOrder | None = None

    def __post_init__(self) -> None:
        if self.kind == PULL and self.pull is not None:
            return
        if self.kind not in KINDS:
            raise InvalidRequest(f"kind is '{self.kind}'; one of: {', '.join(KINDS)}")
        source = self.request.source
        if self.kind == UPSCALE and self.upscale is None:
            raise InvalidRequest("kind 'upscale' needs a picture: give it as upscale.image")
        if self.kind in (IMG2IMG, INPAINT) and source is None:
            raise InvalidRequest(f"kind '{self.kind}' needs a picture: give it as source.image")
        if self.kind == TXT2IMG and source is not None:
            raise InvalidRequest(
                "kind 'txt2img' draws from nothing; with a source it is 'img2img' or 'inpaint'"
            )
        if self.kind == INPAINT and source is not None and not source.masked:
            raise InvalidRequest("kind 'inpaint' needs a mask: give it as source.mask, or source.outpaint")
        if self.kind == IMG2IMG and source is not None and source.mask is not None:
            raise InvalidRequest("kind 'img2img' draws over the whole picture; with a mask it is 'inpaint'")
        expect("count", self.count, 1, 1000)

    @property
    def pictures(self) -> int:
        """Return the number of pictures."""
        return 1 if self.kind in (UPSCALE, PULL) else self.count * self.request.batch_size

    def text(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))


def read_order(text: str) -> Order:
    """Parse an order: the inverse of `Order.text`, which another version may have written."""
    values = json.loads(text)
    upscale = values.pop("upscale", None)
    if upscale is not None:
        size = upscale.get("size")
        upscale = Upscale(**{**upscale, "size": None if size is None else tuple(size)})
    pull = values.pop("pull", None)
    pull = None if pull is None else PullOrder(**pull)
    request = read_job_request(values.pop("request", {}))
    known = {each.name for each in fields(Order)}
    given = {name: value for name, value in values.items() if name in known}
    return Order(**given, request=request, upscale=upscale, pull=pull)


def request_of(order: Order, fetch: Fetch, names: Names) -> Request:
    """Return the request of the first batch, with unexpanded prompts. Raises InvalidRequest."""
    given = order.request
    options: dict[str, Any] = {
        "source": None if given.source is None else _source(given.source, fetch),
        "hires": None if given.hires is None else _hires(given.hires, names),
        "controls": tuple(_control(each, fetch, names) for each in given.controls),
    }
    return Request(**{**vars(given), **options})


def batches(order: Order, request: Request, names: Names) -> Iterator[Request]:
    """Yield a request for each batch, with consecutive seeds; templates are expanded for each batch."""
    assert request.seed is not None
    for number in range(order.count):
        seed = request.seed + number * request.batch_size
        batch = replace(request, seed=seed)
        if request.variation is not None and request.variation.strength > 0:
            # All pictures of all batches share the first seed and differ in the second.
            second = request.variation.seed + number * request.batch_size
            batch = replace(request, variation=replace(request.variation, seed=second))
        if order.expand:
            prompt, negative = (
                partial(_expanded, names, seed, what) for what in ("prompt", "negative prompt")
            )
            batch = replace(
                batch,
                prompt=prompt(request.prompt),
                negative_prompt=negative(request.negative_prompt),
                hires=request.hires and request.hires.with_texts(prompt, negative),
                template=request.prompt,
                negative_template=request.negative_prompt,
            )
        yield batch


def words(order: Order) -> str:
    """Return the searchable text, in lower case."""
    return f"{order.request.prompt}\n{order.request.negative_prompt}".lower()


def _expanded(names: Names, seed: int, purpose: str, text: str) -> str:
    return names.expanded(text, seed, purpose)


# --- inside -----------------------------------------------------------------------------------------------


def _source(given: JobSource, fetch: Fetch) -> Source:
    from pochade.images.decode import on_white
    from pochade.images.fitting import widened

    values: dict[str, Any] = dict(vars(given))
    margins = values.pop("outpaint")
    strength = values.pop("denoising_strength")
    values["image"] = fetch(given.image)
    if margins:
        if given.mask is not None:
            raise InvalidRequest("outpaint creates its own mask; use the other one in a second job")
        values["image"], values["mask"] = widened(
            on_white(values["image"]), margins.left, margins.top, margins.right, margins.bottom
        )
        strength = 1.0 if strength is None else strength
    elif given.mask is not None:
        values["mask"] = fetch(given.mask)
    return Source(**values, **({} if strength is None else {"denoising_strength": strength}))


def _hires(given: Hires, names: Names) -> Hires:
    return replace(
        given,
        upscaler=names.upscaler(given.upscaler),
        model=None if given.model is None else names.checkpoint(str(given.model)),
    )


def _control(given: JobControl, fetch: Fetch, names: Names) -> Control:
    return Control(**{**vars(given), "image": fetch(given.image), "model": names.controlnet(given.model)})
