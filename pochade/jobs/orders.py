"""Orders: what a job draws, stored as JSON, and their conversion to requests.

The fields of `Request` keep their names. Pictures are numbers of files that were sent with the job
(`storage.read_input`); models, upscalers and ControlNets are names, which the catalogue resolves to paths.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pochade.errors import InvalidRequest, expect
from pochade.request import Request
from pochade.request_options import Control, Hires, Source, Variation

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
    """What a job draws. request: fields of `Request` as JSON, with a seed. count: number of batches.

    expand: whether the prompts are templates. partials: the number of requested partial images in full size.
    dialect: the API that it was submitted through, which may interrupt it; "" if unknown.
    pull: of a model download, whose short name is `model`; it has no request.
    """

    kind: str
    model: str
    request: Mapping[str, Any] = field(default_factory=dict)
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
        source = self.request.get("source")
        if self.kind == UPSCALE and self.upscale is None:
            raise InvalidRequest("kind 'upscale' needs a picture: give it as upscale.image")
        if self.kind in (IMG2IMG, INPAINT) and source is None:
            raise InvalidRequest(f"kind '{self.kind}' needs a picture: give it as source.image")
        if self.kind == TXT2IMG and source is not None:
            raise InvalidRequest(
                "kind 'txt2img' draws from nothing; with a source it is 'img2img' or 'inpaint'"
            )
        if (
            self.kind == INPAINT
            and source is not None
            and source.get("mask") is None
            and not source.get("outpaint")
        ):
            raise InvalidRequest("kind 'inpaint' needs a mask: give it as source.mask, or source.outpaint")
        if self.kind == IMG2IMG and source is not None and source.get("mask") is not None:
            raise InvalidRequest("kind 'img2img' draws over the whole picture; with a mask it is 'inpaint'")
        expect("count", self.count, 1, 1000)

    @property
    def pictures(self) -> int:
        """Return the number of pictures."""
        return 1 if self.kind in (UPSCALE, PULL) else self.count * int(self.request.get("batch_size", 1))

    def text(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))


def read_order(text: str) -> Order:
    """Parse an order: the inverse of `Order.text`."""
    values = json.loads(text)
    upscale = values.pop("upscale", None)
    if upscale is not None:
        size = upscale.get("size")
        upscale = Upscale(**{**upscale, "size": None if size is None else tuple(size)})
    pull = values.pop("pull", None)
    pull = None if pull is None else PullOrder(**pull)
    known = {each.name for each in fields(Order)}
    given = {name: value for name, value in values.items() if name in known}
    return Order(**given, upscale=upscale, pull=pull)


def request_of(order: Order, fetch: Fetch, names: Names) -> Request:
    """Return the request of the first batch, with unexpanded prompts. Raises InvalidRequest."""
    given = dict(order.request)
    source = given.get("source")
    given["source"] = None if source is None else _source(source, fetch)
    given["variation"] = _variation(given.get("variation"))
    given["hires"] = _hires(given.get("hires"), names)
    given["controls"] = tuple(_control(each, fetch, names) for each in given.get("controls") or ())
    known = {each.name for each in fields(Request)}
    return Request(**{name: value for name, value in given.items() if name in known})


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
    request = order.request
    return f"{request.get('prompt', '')}\n{request.get('negative_prompt', '')}".lower()


def _expanded(names: Names, seed: int, purpose: str, text: str) -> str:
    return names.expanded(text, seed, purpose)


# --- inside -----------------------------------------------------------------------------------------------


def _source(given: Mapping[str, Any], fetch: Fetch) -> Source:
    from pochade.images.decode import on_white
    from pochade.images.fitting import widened

    values = {name: value for name, value in given.items() if value is not None}
    image = fetch(values.pop("image"))
    outpaint = values.pop("outpaint", None)
    mask = values.pop("mask", None)
    if outpaint:
        if mask is not None:
            raise InvalidRequest("outpaint creates its own mask; use the other one in a second job")
        image, drawn_anew = widened(
            on_white(image), *(outpaint.get(side, 0) for side in ("left", "top", "right", "bottom"))
        )
        return Source(image=image, mask=drawn_anew, **{"denoising_strength": 1.0, **values})
    return Source(image=image, mask=None if mask is None else fetch(mask), **values)


def _variation(given: Mapping[str, Any] | None) -> Variation | None:
    if given is None:
        return None
    size = given.get("size")
    return Variation(**{**given, "size": None if size is None else (int(size[0]), int(size[1]))})


def _hires(given: Mapping[str, Any] | None, names: Names) -> Hires | None:
    if given is None:
        return None
    values = {name: value for name, value in given.items() if value is not None}
    if "size" in values:
        values["size"] = int(values["size"][0]), int(values["size"][1])
    if "upscaler" in values:
        values["upscaler"] = names.upscaler(values["upscaler"])
    if "model" in values:
        values["model"] = names.checkpoint(values["model"])
    return Hires(**values)


def _control(given: Mapping[str, Any], fetch: Fetch, names: Names) -> Control:
    values = {**given, "image": fetch(given["image"]), "model": names.controlnet(given["model"])}
    if values.get("thresholds") is not None:
        values["thresholds"] = float(values["thresholds"][0]), float(values["thresholds"][1])
    return Control(**values)
