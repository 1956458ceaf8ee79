"""The replies of the native API, as docs/api.md and the OpenAPI page describe them."""

import time
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from pochade.jobs.job_request import Outpaint
from pochade.jobs.limits import Limits
from pochade.jobs.records import FINISHED, Picture
from pochade.prompts.styles import Style
from pochade.request import Defaults
from pochade.request_options import Variation
from pochade.server.request_bodies import Reply

Timestamp = str
"""Such as "2026-11-24T16:51:23.123Z"."""


class ErrorDetail(Reply):
    code: str
    message: str
    field: str | None = None


class ErrorBody(Reply):
    error: ErrorDetail


# --- jobs -------------------------------------------------------------------------------------------------


class PictureReply(Reply):
    id: str
    job: str
    label: str
    index: int
    width: int
    height: int
    seed: int
    model: str
    text: str = Field(description="the parameters text")
    prompt: str
    created: Timestamp
    pinned: bool
    bytes: int
    url: str
    thumbnail: str


class SourceReply(Reply):
    image: None = Field(description="always null; so is mask")
    mask: None
    denoising_strength: float | None
    resize_mode: str
    mask_blur: float
    fill: str
    only_masked: bool
    padding: int
    outpaint: Outpaint | None


class HiresReply(Reply):
    scale: float
    size: tuple[int, int] | None
    upscaler: str
    steps: int | None
    denoising_strength: float
    prompt: str | None
    negative_prompt: str | None
    sampler: str | None
    schedule: str | None
    cfg_scale: float | None
    model: str | None


class ControlReply(Reply):
    image: None
    model: str
    strength: float
    start: float
    end: float
    preprocessor: str
    resize_mode: str
    passes: str
    resolution: int | None
    thresholds: tuple[float, float] | None


class UpscaleReply(Reply):
    image: None
    scale: float
    upscaler: str


class RequestReply(Reply):
    """The request of a job, with the settings of the model and the styles filled in."""

    prompt: str
    negative_prompt: str
    seed: int | None
    steps: int | None
    cfg_scale: float | None
    guidance_rescale: float
    width: int | None
    height: int | None
    sampler: str | None
    schedule: str | None
    eta: float | None
    clip_skip: int
    batch_size: int
    speed: str
    tiling: bool
    rng: str
    emphasis: str
    source: SourceReply | None
    variation: Variation | None
    hires: HiresReply | None
    controls: list[ControlReply]
    count: int
    expand: bool
    upscale: UpscaleReply | None = None


class PullReply(Reply):
    """The request of a job that downloads a model."""

    licence: str
    commit: str


class ProgressReply(Reply):
    step: int
    steps: int
    picture: int
    pictures: int
    bytes: int | None = Field(None, description="downloaded so far, for a job of the kind pull only")
    total_bytes: int | None = None


class JobReply(Reply):
    id: str
    kind: str
    state: str
    model: str
    lane: str
    label: str
    created: Timestamp
    started: Timestamp | None
    ended: Timestamp | None
    position: int | None = Field(description="in the queue; 1 is next")
    predicted_seconds: float
    seconds_left: float | None
    progress: ProgressReply | None
    request: RequestReply | PullReply
    pictures: list[PictureReply]
    error: str | None
    attempts: int
    left_out: list[str] = Field([], description="names of fields that were ignored")


class JobsReply(Reply):
    jobs: list[JobReply]
    next: str | None = Field(description="pass it as before to get the next page")


class CancelledReply(Reply):
    cancelled: int


class PicturesReply(Reply):
    pictures: list[PictureReply]
    next: str | None


class InfoReply(Reply):
    text: str
    prompt: str
    negative_prompt: str
    values: dict[str, str]
    request: dict[str, Any] | None = Field(description="for POST /jobs; null if the text cannot be read")
    left_out: list[str]
    width: int
    height: int


class SessionReply(Reply):
    user: str | None
    login_required: bool


class LoginReply(Reply):
    user: str | None


# --- lists ------------------------------------------------------------------------------------------------


class FewStepsReply(Reply):
    kind: str
    reason: str


class ModelReply(Reply):
    name: str
    title: str
    family: str
    kind: Literal["model", "inpainting"]
    default: bool
    bytes: int
    size: tuple[int, int] | None = Field(description="native size, px; null until it was loaded once")
    usual: Defaults
    few_steps: FewStepsReply | None


class ModelsReply(Reply):
    models: list[ModelReply]


class SamplerReply(Reply):
    name: str
    aliases: list[str]
    schedule: str | None
    stochastic: bool
    eta: bool


class SamplersReply(Reply):
    samplers: list[SamplerReply]


class ScheduleReply(Reply):
    name: str
    aliases: list[str]


class SchedulesReply(Reply):
    schedules: list[ScheduleReply]


class StylesReply(Reply):
    styles: list[Style]


class NameReply(Reply):
    name: str
    title: str


class LorasReply(Reply):
    loras: list[NameReply]


class EmbeddingsReply(Reply):
    embeddings: list[NameReply]


class ControlNetsReply(Reply):
    controlnets: list[NameReply]


class PreprocessorReply(Reply):
    name: str


class PreprocessorsReply(Reply):
    preprocessors: list[PreprocessorReply]


class UpscalerReply(Reply):
    name: str
    kind: Literal["picture", "latent", "model"]


class UpscalersReply(Reply):
    upscalers: list[UpscalerReply]


class QueueReply(Reply):
    queued: int
    running: int
    own_queued: int
    own_running: int
    seconds: float


class WorkerReply(Reply):
    device: str
    state: str
    model: str | None
    restarts: int


class StorageReply(Reply):
    bytes: int
    budget_bytes: int | None
    own_pinned_bytes: int
    pin_budget_bytes: int | None


class StatusReply(Reply):
    version: str
    user: str
    queue: QueueReply
    workers: list[WorkerReply]
    limits: Limits
    storage: StorageReply


class KnownModelReply(Reply):
    name: str
    title: str
    kind: str
    family: str
    repo: str
    page: str
    file: str | None
    variant: str | None
    revision: str | None
    licence: str | None
    bytes: int
    memory: dict[str, int] = Field(description="precision -> bytes of the weights")
    measured: str
    usual: Defaults | None
    side: int | None
    hashes: str
    sources: list[str]
    note: str
    state: str = Field(description="here, missing, or the state of the job that downloads it")
    job: str | None
    fetched_bytes: int
    total_bytes: int


class KnownModelsReply(Reply):
    models: list[KnownModelReply]
    may_fetch: bool


class OfferReply(Reply):
    name: str
    repo: str
    commit: str
    licence: str
    licence_link: str
    files: int
    bytes: int
    held: int = Field(description="bytes that an earlier download left")
    free: int = Field(description="bytes that are free on the disk")


# --- how they are made ------------------------------------------------------------------------------------


def shown(picture: Picture) -> dict[str, Any]:
    """Format a picture."""
    url = f"/api/v1/pictures/{picture.id}"
    return {
        "id": picture.id,
        "job": picture.job,
        "label": picture.label,
        "index": picture.number,
        "width": picture.width,
        "height": picture.height,
        "seed": picture.seed,
        "model": picture.model,
        "text": picture.text,
        "prompt": picture.prompt,
        "created": timestamp(picture.created),
        "pinned": picture.pinned,
        "bytes": picture.bytes,
        "url": url,
        "thumbnail": f"{url}/thumbnail",
    }


def timestamp(seconds: float) -> str:
    """Format a time: "2026-11-24T16:51:23.123Z"."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"


def shown_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """Format an event of a live job; the last event of a finished job contains its pictures."""
    if event["type"] != FINISHED:
        return dict(event)
    return {**event, "pictures": [shown(each) for each in event["pictures"]]}
