"""The request of a job: a `Request` as it is stored, without pictures and paths.

Pictures are numbers of the files that were sent with the job (`storage.read_input`). Models, upscalers and
ControlNets are names, which only the catalogue resolves to paths.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, cast

from pochade.errors import InvalidRequest
from pochade.request import Request
from pochade.request_options import Control, Hires, Source, Variation

T = TypeVar("T")

OPEN = Request(prompt="")


def _default(kind: type, name: str) -> Any:
    return next(each.default for each in fields(kind) if each.name == name)


@dataclass(frozen=True, kw_only=True)
class Outpaint:
    """Margins to add to a source picture, px."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def __bool__(self) -> bool:
        return any((self.left, self.top, self.right, self.bottom))


@dataclass(frozen=True, kw_only=True)
class JobSource:
    """A `Source`. denoising_strength: None means the default, or 1 to outpaint."""

    image: int
    mask: int | None = None
    denoising_strength: float | None = None
    resize_mode: str = _default(Source, "resize_mode")
    mask_blur: float = _default(Source, "mask_blur")
    fill: str = _default(Source, "fill")
    only_masked: bool = _default(Source, "only_masked")
    padding: int = _default(Source, "padding")
    outpaint: Outpaint | None = None

    @property
    def masked(self) -> bool:
        """Whether only a part of the picture is redrawn."""
        return self.mask is not None or bool(self.outpaint)


@dataclass(frozen=True, kw_only=True)
class JobControl:
    """A `Control`."""

    image: int
    model: str
    strength: float = _default(Control, "strength")
    start: float = _default(Control, "start")
    end: float = _default(Control, "end")
    preprocessor: str = _default(Control, "preprocessor")
    resize_mode: str = _default(Control, "resize_mode")
    passes: str = _default(Control, "passes")
    resolution: int | None = None
    thresholds: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """A `Request`. Open fields are None until the job is submitted (`server.submission.settled`)."""

    prompt: str = ""
    negative_prompt: str = ""
    seed: int | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    guidance_rescale: float = OPEN.guidance_rescale
    width: int | None = None
    height: int | None = None
    sampler: str | None = None
    schedule: str | None = None
    eta: float | None = None
    clip_skip: int = OPEN.clip_skip
    batch_size: int = OPEN.batch_size
    speed: str = OPEN.speed
    tiling: bool = OPEN.tiling
    rng: str = OPEN.rng
    emphasis: str = OPEN.emphasis
    source: JobSource | None = None
    variation: Variation | None = None
    hires: Hires | None = None
    controls: tuple[JobControl, ...] = field(default=())


def read_job_request(values: Mapping[str, Any]) -> JobRequest:
    """Build a request from JSON values. Null means the default; unknown names are ignored, as other versions
    may have written them. Raises InvalidRequest for a value that is missing or out of range."""
    names = ("source", "variation", "hires", "controls")
    source, variation, hires, controls = (values.get(name) for name in names)
    options: dict[str, Any] = {
        "source": None if source is None else _source(source),
        "variation": None if variation is None else _made(Variation, variation, pair="size"),
        "hires": None if hires is None else _made(Hires, hires, pair="size"),
        "controls": tuple(_made(JobControl, each, pair="thresholds") for each in controls or ()),
    }
    return _made(JobRequest, {**values, **options})


def _source(values: Mapping[str, Any]) -> JobSource:
    margins = values.get("outpaint")
    return _made(JobSource, {**values, "outpaint": None if margins is None else _made(Outpaint, margins)})


def _made(kind: type[T], values: Mapping[str, Any], *, pair: str = "") -> T:
    """Build a dataclass from the values that are not null. pair: a field of two numbers, a list in JSON."""
    known = {each.name for each in fields(cast(Any, kind))}
    given = {name: value for name, value in values.items() if name in known and value is not None}
    if pair in given:
        try:
            first, second = given[pair]
        except (TypeError, ValueError) as wrong:
            raise InvalidRequest(f"{pair} is {given[pair]!r}; it takes two numbers") from wrong
        given[pair] = first, second
    try:
        return kind(**given)
    except TypeError as missing:
        raise InvalidRequest(f"a stored request is incomplete: {missing}") from missing
