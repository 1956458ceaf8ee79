"""The replies of OpenAI's images API, with the names that they have there."""

from pydantic import Field

from pochade.server.request_bodies import Reply


class OpenAIErrorDetail(Reply):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIErrorBody(Reply):
    error: OpenAIErrorDetail


class OpenAIModelReply(Reply):
    id: str
    object: str
    created: int
    owned_by: str


class OpenAIModelsReply(Reply):
    object: str
    data: list[OpenAIModelReply]


class ImageData(Reply):
    """Either of the two, by `response_format`."""

    b64_json: str | None = None
    url: str | None = None


class UsageDetails(Reply):
    text_tokens: int
    image_tokens: int


class ImageUsage(Reply):
    """Always 0: nothing is charged."""

    total_tokens: int
    input_tokens: int
    output_tokens: int
    input_tokens_details: UsageDetails


class OpenAIImagesReply(Reply):
    created: int
    data: list[ImageData]
    output_format: str
    size: str
    quality: str
    background: str
    usage: ImageUsage
    left_out: list[str] = Field([], description="names of fields that were ignored")
