"""OpenAI's images API, /v1: generations, edits, models, and partial images as server-sent events."""

import base64
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from pochade.errors import PochadeError
from pochade.jobs.live import LiveJob, Watcher
from pochade.jobs.records import FINISHED, Picture
from pochade.server.await_job import failure, outcome
from pochade.server.dialects.openai.responses import (
    OpenAIErrorBody,
    OpenAIImagesReply,
    OpenAIModelReply,
    OpenAIModelsReply,
)
from pochade.server.dialects.openai.schemas import ImagesBody, source_of, submitted_order
from pochade.server.downloads import converted, file_of
from pochade.server.errors import error_reply
from pochade.server.events import EventStream, written_event
from pochade.server.middleware import ErrorReply
from pochade.server.receive import MIDDLE_BYTES
from pochade.server.request_bodies import Route
from pochade.server.service import Service
from pochade.server.submission import SubmittedOrder
from pochade.server.uploads import Inputs

PREFIX = "/v1"
BODIES: Mapping[str, int | None] = {"/images/edits": None, "/images/generations": MIDDLE_BYTES}
"""Routes whose bodies may be large, see `receive.BodyLimits`."""
GENERATION, EDIT = "image_generation", "image_edit"
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
CODES = {"unauthorized": "invalid_api_key", "too_many": "rate_limit_exceeded", "invalid": "invalid_value"}
NO_USAGE = {
    "total_tokens": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}
QUALITY = 95
FILES = ("image", "image[]", "mask")
"""Form fields that are files."""
PING_S = 15.0

ERRORS: Mapping[int | str, dict[str, Any]] = {
    "4XX": {"model": OpenAIErrorBody},
    "5XX": {"model": OpenAIErrorBody},
}


def answer(trouble: ErrorReply, request_id: str) -> Response:
    """Format an error as OpenAI's API does."""
    # OpenAI's API answers invalid values with 400, never 422.
    status = 400 if trouble.status == 422 else trouble.status
    return JSONResponse({"error": _error(trouble, status)}, status, headers=dict(trouble.headers or {}))


def router(service: Service) -> APIRouter:
    """Return the routes of a service."""
    routes = APIRouter(prefix=PREFIX, tags=["openai"], route_class=Route, responses=dict(ERRORS))

    @routes.get("/models", response_model=OpenAIModelsReply)
    async def models() -> Any:
        return {"object": "list", "data": [_model(service, name) for name in service.catalogue.models]}

    @routes.get("/models/{model_id:path}", response_model=OpenAIModelReply)
    async def model(model_id: str) -> Any:
        if model_id not in service.catalogue.models:
            raise ErrorReply(404, "model_not_found", f"there is no model '{model_id[:200]}'", "model")
        return _model(service, model_id)

    @routes.post("/images/generations", response_model=OpenAIImagesReply)
    async def generations(request: Request, body: ImagesBody) -> Any:
        order = submitted_order(body, service.catalogue, _inputs(service), None)
        return await reply(request, body, order, GENERATION)

    @routes.post("/images/edits", response_model=OpenAIImagesReply)
    async def edits(
        request: Request,
        prompt: Annotated[str, Form()],
        image: Annotated[list[UploadFile] | None, File()] = None,
        image_list: Annotated[list[UploadFile] | None, File(alias="image[]")] = None,
        mask: Annotated[UploadFile | None, File()] = None,
    ) -> Any:
        # The other fields are those of generations, as text.
        form = await request.form()
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        if "markup" in form:
            raise ErrorReply(400, "invalid", "markup is not supported; use a mask", "markup")
        for name, value in form.items():
            if name not in FILES and not isinstance(value, str):
                why = f"file field '{name[:100]}' is unknown; edits accept image and mask"
                raise ErrorReply(400, "invalid", why, name[:100])
        try:
            body = ImagesBody.model_validate({**fields, "prompt": prompt})
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise ErrorReply(400, "invalid", f"{field}: {first['msg']}", field) from error
        pictures = [*(image or ()), *(image_list or ())]
        if len(pictures) != 1:
            raise ErrorReply(
                400, "invalid", f"{len(pictures)} images were sent; only one can be edited", "image"
            )
        content = await pictures[0].read()
        mask_content = None if mask is None else await mask.read()

        def order() -> SubmittedOrder:
            inputs = _inputs(service)
            source = source_of(content, mask_content, body.strength, inputs)
            return submitted_order(body, service.catalogue, inputs, source)

        return await reply(request, body, await service.decoding(order), EDIT)

    async def reply(request: Request, body: ImagesBody, order: SubmittedOrder, kind: str) -> Any:
        live = await service.submit(request.state.owner, order)
        if body.stream:
            watcher = service.live_jobs.watch(live.owner, live.id)
            return EventStream(
                _streamed(service, live, watcher, body, kind), partial(_disconnected, service, live, watcher)
            )
        _, pictures = await outcome(service, request, live)
        if body.by_url:
            base = str(request.base_url).rstrip("/")
            quality = _quality(body)
            data = [
                {"url": f"{base}{service.links.path(each.id, body.format, quality)}"} for each in pictures
            ]
        else:
            data = [{"b64_json": await run_in_threadpool(_encoded, service, each, body)} for each in pictures]
        return {**_details(pictures, body), "created": int(live.created), "data": data}

    return routes


async def _streamed(
    service: Service, live: LiveJob, watcher: Watcher, body: ImagesBody, kind: str
) -> AsyncIterator[str]:
    """Yield partial images, then the finished ones."""
    try:
        async with aclosing(_events(watcher)) as events:
            async for event in events:
                if event is None:
                    yield ": still here\n\n"
                elif event["type"] == "partial":
                    image = event["images"][0].partition(",")[2]
                    image = await run_in_threadpool(_base64, base64.b64decode(image), body)
                    details = {"partial_image_index": event["index"], "created_at": int(live.created)}
                    yield _event(f"{kind}.partial_image", {"b64_json": image, **_shape(body), **details})
        job, pictures = await service.wait(live)
        if job.state != FINISHED:
            trouble = (
                failure(live, job.error)
                if job.error
                else ErrorReply(409, "conflict", "the job was cancelled")
            )
            yield _event("error", {"error": _error(trouble, trouble.status)})
            return
        for picture in pictures:
            image = await run_in_threadpool(_encoded, service, picture, body)
            data = {"b64_json": image, **_shape(body), "created_at": int(live.created), "usage": NO_USAGE}
            yield _event(f"{kind}.completed", {**data, "size": _size(picture), **_left_out(body)})
    except (PochadeError, ErrorReply) as error:  # the status has been sent, so the error becomes an event
        trouble = error_reply(error)
        yield _event("error", {"error": _error(trouble, trouble.status)})


def _disconnected(service: Service, live: LiveJob, watcher: Watcher) -> None:
    """Clean up after the stream. The job is cancelled if its client has disconnected."""
    service.live_jobs.unwatch(watcher)
    # A server that is stopping keeps the job and draws it after its next start.
    if live.id in service.live_jobs.live and not service.stopping:
        service.later(service.cancel(live.owner, live.id))


async def _events(watcher: Watcher) -> AsyncGenerator[Any]:
    while True:
        try:
            yield await watcher.next(PING_S)
        except StopAsyncIteration:
            return


def _event(kind: str, data: dict[str, Any]) -> str:
    return written_event(kind, {"type": kind, **data})


def _inputs(service: Service) -> Inputs:
    def none(picture: str) -> bytes:
        raise ErrorReply(400, "invalid", "pictures must be sent as files")

    return Inputs(none, service.check_picture)


def _shape(body: ImagesBody) -> dict[str, Any]:
    return {
        "output_format": body.format,
        "size": body.size or "auto",
        "quality": body.quality or "auto",
        "background": "opaque",
    }


def _details(pictures: list[Picture], body: ImagesBody) -> dict[str, Any]:
    details = {**_shape(body), "usage": NO_USAGE, **_left_out(body)}
    return {**details, "size": _size(pictures[0])} if pictures else details


def _left_out(body: ImagesBody) -> dict[str, Any]:
    """Return the reply's list of unsupported fields, if there are any."""
    return {"left_out": body.left_out} if body.left_out else {}


def _size(picture: Picture) -> str:
    return f"{picture.width}x{picture.height}"


def _encoded(service: Service, picture: Picture, body: ImagesBody) -> str:
    return _base64(file_of(service.storage, picture), body, picture.text)


def _base64(content: bytes, body: ImagesBody, text: str = "") -> str:
    """Encode a PNG in the requested format, with its parameters text."""
    if body.format != "png":
        content = converted(content, body.format.upper(), text, quality=_quality(body))
    return base64.b64encode(content).decode()


def _quality(body: ImagesBody) -> int:
    return QUALITY if body.output_compression is None else body.output_compression


def _model(service: Service, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "pochade"}


def _error(trouble: ErrorReply, status: int) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else TYPES.get(status, "invalid_request_error")
    code = CODES.get(trouble.code, trouble.code)
    return {"message": trouble.message, "type": kind, "param": trouble.field, "code": code}
