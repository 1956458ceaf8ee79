"""The replies of A1111's API and of its ControlNet extension, with the names that they have there.

Fields that belong to features that Pochade does not have are always empty.
"""

from typing import Any

from pydantic import Field

from pochade.server.request_bodies import Reply


class A1111ErrorBody(Reply):
    error: str
    detail: str
    body: str
    errors: str


Nothing = dict[str, Any]
"""An empty object."""


# --- drawing ----------------------------------------------------------------------------------------------


class A1111ImagesReply(Reply):
    images: list[str] = Field(description="files in base64")
    parameters: dict[str, Any] = Field(description="the request as it was understood")
    info: str = Field(description="JSON with seeds, infotexts, and left_out: names of ignored fields")


class ExtraSingleReply(Reply):
    html_info: str
    image: str


class ExtraBatchReply(Reply):
    html_info: str
    images: list[str]


class PngInfoReply(Reply):
    info: str
    items: dict[str, str]
    parameters: dict[str, str]


class A1111ProgressState(Reply):
    skipped: bool
    interrupted: bool
    stopping_generation: bool
    job: str
    job_count: int
    job_timestamp: str
    job_no: int
    sampling_step: int
    sampling_steps: int


class A1111ProgressReply(Reply):
    progress: float
    eta_relative: float = Field(description="seconds")
    state: A1111ProgressState
    current_image: str | None
    textinfo: str | None
    current_task: str | None


# --- lists ------------------------------------------------------------------------------------------------


class SamplerItem(Reply):
    name: str
    aliases: list[str]
    options: dict[str, str]


class SchedulerItem(Reply):
    name: str
    label: str
    aliases: list[str] | None
    default_rho: float
    need_inner_model: bool


class UpscalerItem(Reply):
    name: str
    model_name: str | None
    model_path: str | None
    model_url: str | None
    scale: float


class LatentUpscalerItem(Reply):
    name: str


class ModelItem(Reply):
    title: str
    model_name: str
    hash: str | None
    sha256: str | None
    filename: str
    config: str | None


class LoraItem(Reply):
    name: str
    alias: str
    path: str
    metadata: dict[str, Any]


class StyleItem(Reply):
    name: str
    prompt: str
    negative_prompt: str


class EmbeddingItem(Reply):
    step: int | None
    sd_checkpoint: str | None
    sd_checkpoint_name: str | None
    shape: int
    vectors: int


class A1111EmbeddingsReply(Reply):
    loaded: dict[str, EmbeddingItem]
    skipped: dict[str, EmbeddingItem]


class ScriptsReply(Reply):
    txt2img: list[str]
    img2img: list[str]


class FlagsReply(Reply):
    api: bool


class MemoryReply(Reply):
    ram: dict[str, Any]
    cuda: dict[str, Any]


class SetOptionsReply(Reply):
    left_out: list[str]


# --- ControlNet -------------------------------------------------------------------------------------------


class VersionReply(Reply):
    version: int


class ControlNetModelsReply(Reply):
    model_list: list[str]


class ModuleDetail(Reply):
    model_free: bool
    sliders: list[Any]


class ModulesReply(Reply):
    module_list: list[str]
    module_detail: dict[str, ModuleDetail]


class ControlType(Reply):
    module_list: list[str]
    model_list: list[str]
    default_option: str
    default_model: str


class ControlTypesReply(Reply):
    control_types: dict[str, ControlType]


class SettingsReply(Reply):
    control_net_unit_count: int


class DetectReply(Reply):
    images: list[str]
    info: str
    left_out: list[str] = Field([], description="names of ignored fields")
