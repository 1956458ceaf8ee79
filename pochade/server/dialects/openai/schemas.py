"""What clients of OpenAI's images API send, and what it means in our words.

Models that only exist elsewhere, and "auto", stand for the default. seed, steps, negative_prompt and the like
are fields that the original does not have; its clients send them as extra ones.
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

FOREIGN = re.compile(r"(auto|dall-e|gpt-image|gpt-|chatgpt-image)", re.IGNORECASE)
BY_URL = re.compile(r"dall-e", re.IGNORECASE)
"""Models that answer with an address unless base64 is asked for."""

FORMATS = ("png", "jpeg", "webp")
RESPONSES = ("b64_json", "url")
SIDE = 8

IGNORABLE: Mapping[str, str] = {
    "user": "who asks is known by the key",
    "safety_identifier": "the same",
    "moderation": "nothing is filtered here, whether more or less strictly",
    "partial_images": "done where the reply is streamed; else nothing is on the way, as in the original",
}
"""Fields that ask for nothing that could be done, and why."""

NAMED: Mapping[str, tuple[Any, ...]] = {
    "quality": (None, "standard", "auto", "medium"),
    "style": (None,),
    "input_fidelity": (None, "low"),
    "complexity": (None,),
    "effort": (None,),
    "reasoning": (None,),
}
"""Fields that models elsewhere have. They are named in the reply, `left_out`, unless at these values."""

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
    def auto_is_nothing(cls, value: Any) -> Any:
        """ "auto" is sent for everything that has a default."""
        return None if value in ("auto", "") and isinstance(value, str) else value

    @property
    def format(self) -> str:
        return self.output_format or "png"

    @property
    def by_url(self) -> bool:
        """Whether the pictures are answered by their addresses."""
        if self.response_format is None:
            return self.model is not None and BY_URL.match(self.model) is not None
        return self.response_format == "url"

    @property
    def left_out(self) -> list[str]:
        """Names of what was asked for and is not done."""
        asked_for = [name for name, usual in NAMED.items() if getattr(self, name) not in usual]
        return [*asked_for, *left_out(self)]


def asked(body: ImagesBody, catalogue: Catalogue, inputs: Inputs, source: JobSource | None) -> SubmittedOrder:
    """What the service takes. source: of an edit. Raises Trouble."""
    _check(body)
    if source is None and body.strength is not None:
        why = "strength is of drawing over a picture; send the picture to /v1/images/edits, or leave it out"
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
    """Raises Trouble for a name that is neither here nor one of the original's."""
    if name is None:
        return catalogue.default
    try:
        return catalogue.model(name).name
    except InvalidRequest as unknown:
        if FOREIGN.match(name):
            return catalogue.default
        raise ErrorReply(404, "model_not_found", str(unknown), "model") from unknown


def source_of(image: bytes, mask: bytes | None, strength: float | None, inputs: Inputs) -> JobSource:
    """The picture to edit. What is transparent in the mask, or without one in the picture, is drawn anew."""
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
    """Width and height, px, of whole latent pixels, or just those of a picture that is edited."""
    if size is None:
        return None, None
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size.strip(), re.ASCII)
    if found is None:
        raise ErrorReply(400, "invalid", f"size is '{size[:100]}'; write WIDTHxHEIGHT, or 'auto'", "size")
    asked = int(found[1]), int(found[2])
    if asked == picture:
        return asked
    width, height = (max(SIDE, side // SIDE * SIDE) for side in asked)
    return width, height


def _png(image: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
