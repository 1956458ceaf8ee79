"""Request bodies of the native API, with the names of `pochade.request` and `pochade.request_options`.

See docs/api.md.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from pochade.errors import InvalidRequest
from pochade.jobs.job_request import read_job_request
from pochade.jobs.limits import LARGEST_SEED
from pochade.jobs.orders import KINDS, NOT_DRAWN, UPSCALE, Order, Upscale
from pochade.request import Request
from pochade.request_options import Hires, Source
from pochade.server.request_bodies import MAX_REPORTED, Body
from pochade.server.request_bodies import left_out as unknown_fields
from pochade.server.submission import SubmittedOrder
from pochade.server.uploads import Inputs

NO_PICTURE = Request(prompt="")
HIRES = Hires()
SOURCE: dict[str, Any] = {name: field.default for name, field in Source.__dataclass_fields__.items()}

OF_UPSCALE = ("kind", "upscale", "lane", "label", "preview")
"""Fields that apply to upscaling."""

Picture = Annotated[str, Field(description='base64, a data URL, or "picture:ID"')]
Fraction = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[tuple[int, int] | None, Field(description="[width, height], px")]


class OutpaintBody(Body):
    left: int = Field(0, ge=0, le=4096)
    top: int = Field(0, ge=0, le=4096)
    right: int = Field(0, ge=0, le=4096)
    bottom: int = Field(0, ge=0, le=4096)


class SourceBody(Body):
    image: Picture
    mask: Picture | None = Field(None, description="white where the picture is redrawn")
    denoising_strength: Fraction | None = Field(None, description="0.75, or 1 to outpaint")
    resize_mode: str = SOURCE["resize_mode"]
    mask_blur: float = SOURCE["mask_blur"]
    fill: str = SOURCE["fill"]
    only_masked: bool = SOURCE["only_masked"]
    padding: int = SOURCE["padding"]
    outpaint: OutpaintBody | None = None


class VariationBody(Body):
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    strength: Fraction = 0.0
    size: Size = None


class HiresBody(Body):
    scale: float = HIRES.scale
    size: Size = None
    upscaler: str = HIRES.upscaler
    steps: int | None = None
    denoising_strength: float = HIRES.denoising_strength
    prompt: str | None = Field(None, description="null: as in the first pass; so are all below")
    negative_prompt: str | None = None
    sampler: str | None = None
    schedule: str | None = None
    cfg_scale: float | None = None
    model: str | None = None


class ControlBody(Body):
    image: Picture
    model: str
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    preprocessor: str = "none"
    resize_mode: str = "crop"
    passes: str = Field(
        "both", description="with a second pass, the pass that it applies to: both, first or second"
    )
    resolution: int | None = Field(
        None, description="resolution at which the preprocessor reads the picture, px"
    )
    thresholds: tuple[float, float] | None = Field(None, description="of canny: [low, high], 0 to 255")


class UpscaleBody(Body):
    image: Picture
    scale: float = Field(2.0, ge=1, le=8)
    upscaler: str = "Lanczos"


class JobBody(Body):
    kind: str = Field(KINDS[0], description=", ".join(KINDS))
    model: str | None = None
    prompt: str = ""
    negative_prompt: str = ""
    seed: int | None = Field(None, ge=-1, le=LARGEST_SEED)
    steps: int | None = Field(None, description="null: the model's own, as in GET /models")
    cfg_scale: float | None = None
    guidance_rescale: float = NO_PICTURE.guidance_rescale
    width: int | None = None
    height: int | None = None
    sampler: str | None = None
    schedule: str | None = None
    eta: float | None = None
    clip_skip: int = NO_PICTURE.clip_skip
    batch_size: int = 1
    count: int = Field(1, ge=1, le=1000)
    speed: str = NO_PICTURE.speed
    tiling: bool = False
    rng: str = NO_PICTURE.rng
    emphasis: str = NO_PICTURE.emphasis
    source: SourceBody | None = None
    variation: VariationBody | None = None
    hires: HiresBody | None = None
    controls: list[ControlBody] = Field([], max_length=8)
    styles: list[str] = Field([], max_length=64)
    expand: bool = False
    comments: bool = Field(False, description="treat # to the end of the line as a comment in prompts")
    upscale: UpscaleBody | None = None
    preview: bool = True
    lane: Literal["interactive", "batch"] = "interactive"
    label: str = Field("", max_length=100)
    blend: Any = Field(None, description="not supported; null")
    refiner: Any = Field(None, description="the same")

    @field_validator(*NOT_DRAWN)
    @classmethod
    def none_of_these(cls, value: Any, about: ValidationInfo) -> None:
        if value is not None:
            raise ValueError(f"the server does not support {about.field_name}; omit it")

    @property
    def has_pictures(self) -> bool:
        return self.source is not None or bool(self.controls) or self.upscale is not None

    @property
    def left_out(self) -> list[str]:
        """Return the names of fields that are unknown or have no effect on this job."""
        return [*unknown_fields(self), *self._without_effect()][:MAX_REPORTED]

    def _without_effect(self) -> list[str]:
        if self.kind == UPSCALE:
            return [name for name in _changed(self) if name not in OF_UPSCALE]
        names = []
        if self.source is not None:
            of_mask = set() if self.source.mask or self.source.outpaint else {"mask_blur", "fill"}
            of_part = set() if self.source.only_masked else {"padding"}
            names += [f"source.{name}" for name in _changed(self.source) if name in of_mask | of_part]
        varied = self.variation
        if varied is not None and varied.seed and not varied.strength:
            names.append("variation.seed")
        if self.hires is not None and self.hires.size is not None and "scale" in _changed(self.hires):
            names.append("hires.scale")
        for number, control in enumerate(self.controls):
            if control.passes != "both" and self.hires is None:
                names.append(f"controls[{number}].passes")
            if control.thresholds is not None and control.preprocessor.strip().lower() != "canny":
                names.append(f"controls[{number}].thresholds")
        return names

    def to_order(self, inputs: Inputs) -> SubmittedOrder:
        """Convert the body to an order; pictures become numbers in `inputs`. Raises InvalidRequest."""
        if self.upscale is not None and self.kind != UPSCALE:
            raise InvalidRequest(f"upscale requires kind 'upscale', and kind is '{self.kind[:100]}'; omit it")
        about = (
            "kind",
            "model",
            "count",
            "expand",
            "preview",
            "styles",
            "comments",
            "lane",
            "label",
            "upscale",
        )
        request: dict[str, Any] = self.model_dump(exclude=set(about))
        if self.seed == -1:
            request["seed"] = None
        if self.source is not None:
            source = request["source"]
            source["image"] = inputs.add(self.source.image, "source.image")
            if self.source.mask is not None:
                source["mask"] = inputs.add(self.source.mask, "source.mask")
        for number, control in enumerate(self.controls):
            request["controls"][number]["image"] = inputs.add(control.image, f"controls[{number}].image")
        upscale = None
        if self.upscale is not None:
            image = inputs.add(self.upscale.image, "upscale.image")
            upscale = Upscale(image=image, scale=self.upscale.scale, upscaler=self.upscale.upscaler)
        order = Order(
            kind=self.kind,
            model=self.model or "",
            request=read_job_request(request),
            upscale=upscale,
            count=self.count,
            expand=self.expand,
            preview=self.preview,
            dialect="native",
        )
        return SubmittedOrder(
            order=order,
            inputs=inputs.contents,
            styles=self.styles,
            comments=self.comments,
            lane=self.lane,
            label=self.label,
        )


class PullBody(Body):
    model: str = Field(max_length=100, description="a short name, as in GET /known-models")
    licence: str = Field(
        max_length=200, description="that you accept, as the look-up names it; empty if it names none"
    )
    commit: str = Field(
        "", pattern="^([0-9a-f]{40})?$", description="as the look-up names it; empty is the newest"
    )
    label: str = Field("", max_length=100)


def _changed(body: Body) -> list[str]:
    """Return the names of fields that were sent with another value than the default."""
    sent = body.model_fields_set
    return [
        name
        for name, field in type(body).model_fields.items()
        if name in sent and getattr(body, name) != field.default
    ]


class CancelBody(Body):
    keep: bool = False


class PinBody(Body):
    pinned: bool = True


class InfoBody(Body):
    image: Picture


class LoginBody(Body):
    key: str = Field(max_length=1000)
