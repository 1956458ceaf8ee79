"""Convert requests in the format of OpenAI's images API to orders.

The names of OpenAI's models, and "auto", select the default. seed, steps, negative_prompt and the like are
extensions; OpenAI's clients send them as extra fields (`extra_body`).
"""

import io
import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from pochade.errors import InvalidRequest
from pochade.images.decode import size_in_header
from pochade.jobs.catalogue import Catalogue
from pochade.jobs.job_request import JobRequest, JobSource
from pochade.jobs.limits import LARGEST_SEED
from pochade.jobs.orders import IMG2IMG, INPAINT, TXT2IMG, Order
from pochade.server.middleware import ErrorReply
from pochade.server.request_bodies import Body, left_out
from pochade.server.submission import SubmittedOrder
from pochade.server.uploads import Inputs

OPENAI_MODELS = re.compile(r"(auto|dall-e|gpt-image|gpt-|chatgpt-image)", re.IGNORECASE)
BY_URL = re.compile(r"dall-e", re.IGNORECASE)
"""Models whose default response_format is "url"."""

FORMATS = ("png", "jpeg", "webp")
RESPONSES = ("b64_json", "url")
SIDE = 8

IGNORABLE: Mapping[str, str] = {
    "user": "the key identifies the user",
    "safety_identifier": "the same",
    "moderation": "nothing is filtered",
    "partial_images": "supported with stream; otherwise without effect, as in OpenAI's API",
}
"""Fields without effect, and why."""

UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "quality": (None, "standard", "auto", "medium"),
    "style": (None,),
    "input_fidelity": (None, "low"),
    "complexity": (None,),
    "effort": (None,),
    "reasoning": (None,),
}
"""Unsupported fields of OpenAI's models. The reply lists them in `left_out` unless they have these values."""

REFUSED: Mapping[str, str] = {
    "frame_count": "animations are not supported; omit frame_count",
    "frame_duration_ms": "animations are not supported; omit frame_duration_ms",
    "svg": "SVG is not supported; omit svg",
}


class ImagesBody(Body):
    prompt: str = Field(min_length=1, max_length=32_000)
    model: str | None = None
    n: int | None = Field(None, ge=1, le=10)
    size: str | None = None
    quality: str | None = None
    response_format: str | None = None
    background: str | None = None
    output_format: str | None = None
    output_compression: int | None = Field(None, ge=0, le=100)
    moderation: str | None = None
    style: str | None = None
    user: str | None = None
    stream: bool | None = None
    partial_images: int | None = Field(None, ge=0, le=3)
    seed: int | None = Field(None, ge=-1, le=LARGEST_SEED)
    steps: int | None = Field(None, ge=1)
    negative_prompt: str | None = None
    cfg_scale: float | None = None
    sampler: str | None = None
    schedule: str | None = None
    strength: float | None = Field(None, ge=0, le=1)
    input_fidelity: str | None = None
    safety_identifier: str | None = None
    complexity: str | None = None
    effort: str | None = None
    reasoning: Any = None
    frame_count: int | None = None
    frame_duration_ms: int | None = None
    svg: Any = None

    @field_validator("model", "n", "size", "quality", "background", "output_format", mode="before")
    @classmethod
    def auto_is_none(cls, value: Any) -> Any:
        """Replace "auto", which clients send for any field that has a default."""
        return None if value in ("auto", "") and isinstance(value, str) else value

    @property
    def format(self) -> str:
        return self.output_format or "png"

    @property
    def by_url(self) -> bool:
        """Whether the reply contains URLs instead of base64."""
        if self.response_format is None:
            return self.model is not None and BY_URL.match(self.model) is not None
        return self.response_format == "url"

    @property
    def left_out(self) -> list[str]:
        """The names of unsupported fields that were sent."""
        unsupported = [name for name, ignored in UNSUPPORTED.items() if getattr(self, name) not in ignored]
        return [*unsupported, *left_out(self)]


def submitted_order(
    body: ImagesBody, catalogue: Catalogue, inputs: Inputs, source: JobSource | None
) -> SubmittedOrder:
    """Convert a body to an order. source: the source of an edit. Raises ErrorReply."""
    _check(body)
    if source is None and body.strength is not None:
        why = "strength applies only to /v1/images/edits; omit it"
        raise ErrorReply(400, "invalid", why, "strength")
    width, height = _size(
        body.size, None if source is None else size_in_header(inputs.contents[source.image])
    )
    request = JobRequest(
        prompt=body.prompt,
        negative_prompt=body.negative_prompt or "",
        seed=None if body.seed is None or body.seed < 0 else body.seed,
        steps=body.steps,
        cfg_scale=body.cfg_scale,
        width=width,
        height=height,
        sampler=body.sampler or None,
        schedule=body.schedule or None,
        source=source,
    )
    kind = TXT2IMG if source is None else INPAINT if source.mask is not None else IMG2IMG
    order = Order(
        kind=kind,
        model=model_of(body.model, catalogue),
        request=request,
        count=1 if body.n is None else body.n,
        preview=False,
        partials=(body.partial_images or 0) if body.stream else 0,
        dialect="openai",
    )
    return SubmittedOrder(order=order, inputs=inputs.contents)


def model_of(name: str | None, catalogue: Catalogue) -> str:
    """Return the model's name. Raises ErrorReply for one that is neither in the catalogue nor OpenAI's."""
    if name is None:
        return catalogue.default
    try:
        return catalogue.model(name).name
    except InvalidRequest as unknown:
        if OPENAI_MODELS.match(name):
            return catalogue.default
        raise ErrorReply(404, "model_not_found", str(unknown), "model") from unknown


def source_of(image: bytes, mask: bytes | None, strength: float | None, inputs: Inputs) -> JobSource:
    """Return the source of an edit. Transparent areas of the mask, or else of the picture, are redrawn."""
    from pochade.images.decode import on_white, read_mask, read_picture

    number = inputs.put(image)
    picture = read_picture(image)
    transparent = picture if mask is None and picture.mode == "RGBA" else None
    if mask is not None:
        inputs.check(mask)
        transparent = read_mask(mask)
        if transparent.mode != "RGBA":
            raise ErrorReply(
                400, "invalid", "the mask has no transparent area, so there is nothing to edit", "mask"
            )
        if transparent.size != picture.size:
            raise ErrorReply(400, "invalid", "mask and image must have the same size", "mask")
    white_where_new = None
    if transparent is not None:
        from PIL import ImageOps

        white = ImageOps.invert(transparent.getchannel("A"))
        inputs.contents[number] = _png(on_white(picture))
        white_where_new = inputs.put(_png(white.convert("L")))
    default = 0.75 if white_where_new is None else 1.0
    return JobSource(
        image=number, mask=white_where_new, denoising_strength=default if strength is None else strength
    )


# --- inside -----------------------------------------------------------------------------------------------


def _check(body: ImagesBody) -> None:
    for name, value, known in (
        ("output_format", body.output_format, FORMATS),
        ("response_format", body.response_format, RESPONSES),
    ):
        if value is not None and value not in known:
            raise ErrorReply(400, "invalid", f"{name} is '{value[:100]}'; one of: {', '.join(known)}", name)
    for name, why in REFUSED.items():
        if getattr(body, name) is not None:
            raise ErrorReply(400, "invalid", why, name)
    if body.stream and body.response_format == "url":
        why = "streams carry pictures in base64; omit stream, or send response_format 'b64_json'"
        raise ErrorReply(400, "invalid", why, "response_format")
    if body.format == "png" and body.output_compression not in (None, 100):
        why = "PNG is lossless; output_compression applies only to output_format jpeg or webp"
        raise ErrorReply(400, "invalid", why, "output_compression")
    if body.background == "transparent":
        raise ErrorReply(400, "invalid", "transparent backgrounds are not supported", "background")


def _size(size: str | None, picture: tuple[int, int] | None) -> tuple[int | None, int | None]:
    """Return width and height, px: those of the edited picture, or rounded down to whole latent pixels."""
    if size is None:
        return None, None
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size.strip(), re.ASCII)
    if found is None:
        raise ErrorReply(400, "invalid", f"size is '{size[:100]}'; write WIDTHxHEIGHT, or 'auto'", "size")
    requested = int(found[1]), int(found[2])
    if requested == picture:
        return requested
    width, height = (max(SIDE, side // SIDE * SIDE) for side in requested)
    return width, height


def _png(image: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
