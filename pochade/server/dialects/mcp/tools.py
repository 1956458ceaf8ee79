"""The tools themselves. What goes wrong in one of them is its result, so that a language model reads why."""

import asyncio
import base64
import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mcp import MCPError
from mcp import types as spoken
from mcp.server import Server, ServerRequestContext
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

import pochade
from pochade.diffusion.samplers import SAMPLERS
from pochade.diffusion.schedule import AUTOMATIC, SCHEDULES
from pochade.errors import PochadeError
from pochade.images.metadata import encodable
from pochade.jobs.live import LiveJob, Watcher
from pochade.jobs.records import FINISHED, Picture
from pochade.server.auth import LOCAL
from pochade.server.await_job import failure
from pochade.server.dialects.mcp.schemas import (
    Arguments,
    DrawArguments,
    EditArguments,
    NoArguments,
    ReadArguments,
)
from pochade.server.downloads import converted, file_of
from pochade.server.errors import error_reply, invalid
from pochade.server.middleware import ErrorReply
from pochade.server.service import Service
from pochade.server.uploads import Inputs
from pochade.server.views import own_picture, shown_models, what_it_says

LARGEST_BYTES, SIDES, QUALITY = 500_000, (1024, 768, 512, 384, 256), 85
"""Assistants refuse results of a megabyte, in which a byte takes 1.3. Files that are larger together are
shown as JPEGs of the first of these sides that fits, and linked to."""

INSTRUCTIONS = (
    "Draws pictures with Stable Diffusion. Describe the picture in a few words and phrases, the most"
    " important ones first; the model does not see the conversation. Each picture has an id: give"
    ' "picture:ID" as the image of edit_image to edit it further.'
)

Context = ServerRequestContext[Any, Any]
Content = spoken.ContentBlock
Run = Callable[["Call", Any], Awaitable[list[Content]]]


@dataclass(frozen=True)
class Call:
    """Who asks, and where they hear of progress."""

    service: Service
    context: Context

    @property
    def owner(self) -> str:
        """Whom the guard has let in; over standard input there is only one who can ask."""
        request = self.context.request
        return LOCAL if request is None else str(request.state.owner)

    def link(self, picture: Picture) -> str:
        """Where the file is: at this server, or, for a program that started this one, on the disk."""
        if self.context.request is None:
            return self.service.storage.output(picture.path).absolute().as_uri()
        base = str(self.context.request.base_url).rstrip("/")
        # Whoever opens it may have no key; without keys the plain address holds for as long as the picture.
        keyed = self.service.links.path(picture.id)
        return f"{base}{keyed}" if self.service.keys else f"{base}/api/v1/pictures/{picture.id}"

    def inputs(self) -> Inputs:
        return Inputs(lambda own: own_picture(self.service, self.owner, own), self.service.check_picture)


@dataclass(frozen=True)
class Tool:
    description: str
    arguments: type[Arguments]
    run: Run
    reads: bool = False

    def told(self, name: str) -> spoken.Tool:
        """As clients are told of it."""
        hints = spoken.ToolAnnotations(
            read_only_hint=self.reads, destructive_hint=False, open_world_hint=False
        )
        schema = self.arguments.model_json_schema()
        return spoken.Tool(name=name, description=self.description, input_schema=schema, annotations=hints)


def make_server(service: Service) -> Server[Any]:
    """What answers, over one service, whatever carries the messages."""
    told = [tool.told(name) for name, tool in TOOLS.items()]

    async def list_tools(context: Context, params: object) -> spoken.ListToolsResult:
        return spoken.ListToolsResult(tools=told)

    async def call_tool(context: Context, params: spoken.CallToolRequestParams) -> spoken.CallToolResult:
        tool = TOOLS.get(params.name)
        if tool is None:
            unknown = f"there is no tool '{encodable(params.name[:100])}'; one of: {', '.join(TOOLS)}"
            raise MCPError(spoken.INVALID_PARAMS, unknown)
        try:
            arguments = tool.arguments.model_validate(params.arguments or {})
            return spoken.CallToolResult(content=await tool.run(Call(service, context), arguments))
        except ValidationError as error:
            trouble = invalid(error.errors())
        except Exception as error:
            trouble = error_reply(error)
            if trouble.code == "internal":
                traceback.print_exc(file=sys.stderr)
        return spoken.CallToolResult(content=[_text(trouble.message)], is_error=True)

    return Server(
        "pochade",
        version=pochade.__version__,
        title="Pochade",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


# --- drawing ----------------------------------------------------------------------------------------------


async def _taken_along(service: Service, submitting: "asyncio.Task[LiveJob]") -> None:
    """Cancel a job whose client gave up while it was being kept."""
    with suppress(PochadeError):
        live = await submitting
        await service.cancel(live.owner, live.id)


async def draw(call: Call, arguments: DrawArguments) -> list[Content]:
    """A job as any other; a client that gives up takes it along. Raises what makes it fail."""
    service, owner = call.service, call.owner
    prepare = service.decoding if isinstance(arguments, EditArguments) else run_in_threadpool
    asked = await prepare(arguments.asked, service.catalogue, call.inputs())
    submitting = asyncio.create_task(service.submit(owner, asked))
    try:
        live = await asyncio.shield(submitting)
    except asyncio.CancelledError:
        service.later(_taken_along(service, submitting))
        raise
    watcher = service.live_jobs.watch(owner, live.id)
    try:
        await _report(call, live, watcher)
        job, pictures = await service.wait(live)
    finally:
        service.live_jobs.unwatch(watcher)
        # A server that stops draws it after its next start, for the history.
        if live.id in service.live_jobs.live and not service.stopping:
            service.later(service.cancel(owner, live.id))
    if job.state != FINISHED:
        raise failure(live, job.error) if job.error else ErrorReply(409, "conflict", "it was cancelled")
    found: list[Content] = []
    for picture in pictures:
        found += await run_in_threadpool(_shown, call, picture, LARGEST_BYTES // len(pictures))
    return found


async def _report(call: Call, live: LiveJob, watcher: Watcher) -> None:
    """Tell how far it is, in percent, until it is over. What is told must grow each time."""
    told = -1.0
    async for event in watcher:
        percent = round(100 * live.share(), 1)
        if percent <= told or event["type"] not in ("queued", "progress"):
            continue
        told = percent
        message = f"step {live.step} of {live.steps}"
        if event["type"] == "queued":
            message = f"queued at position {event['position']}"
        await call.context.session.report_progress(percent, 100.0, message)


def _shown(call: Call, picture: Picture, most: int) -> list[Content]:
    """A picture to look at in `most` bytes, where it is, and how it was made."""
    content, kind = file_of(call.service.storage, picture), "image/png"
    if len(content) > most:
        content, kind = _smaller(content, picture.text, most), "image/jpeg"
    return [
        spoken.ImageContent(data=base64.b64encode(content).decode(), mime_type=kind),
        spoken.ResourceLink(
            name=f"{picture.id}.png", uri=call.link(picture), mime_type="image/png", size=picture.bytes
        ),
        _text(f"picture:{picture.id} ({picture.width} x {picture.height} px)\n{picture.text}"),
    ]


def _smaller(content: bytes, text: str, most: int) -> bytes:
    """A PNG as a JPEG of at most so many bytes, if the smallest of the sides allows, that says the same."""
    for side in SIDES:
        smaller = converted(content, "JPEG", text, quality=QUALITY, largest=side)
        if len(smaller) <= most:
            break
    return smaller


# --- telling ----------------------------------------------------------------------------------------------


async def list_models(call: Call, arguments: NoArguments) -> list[Content]:
    """Names for the arguments of the other tools."""
    return _json(
        {
            "models": shown_models(call.service),
            "loras": list(call.service.catalogue.loras),
            "samplers": [sampler.label for sampler in SAMPLERS.values()],
            "schedules": [AUTOMATIC, *SCHEDULES],
        }
    )


async def read_parameters(call: Call, arguments: ReadArguments) -> list[Content]:
    """What a picture file says of how it was made."""

    def read() -> Mapping[str, Any]:
        inputs = call.inputs()
        return what_it_says(call.service, inputs.contents[inputs.add(arguments.image, "image")])

    return _json(await call.service.decoding(read))


def _json(found: Mapping[str, Any]) -> list[Content]:
    return [_text(json.dumps(found, ensure_ascii=False))]


def _text(text: str) -> spoken.TextContent:
    return spoken.TextContent(text=encodable(text))


TOOLS: Mapping[str, Tool] = {
    "generate_image": Tool("Draw a picture from words.", DrawArguments, draw),
    "edit_image": Tool(
        "Draw over a picture: all of it, loosely or closely, or only what a mask shows in white.",
        EditArguments,
        draw,
    ),
    "list_models": Tool("Names of models, LoRAs, samplers and schedules.", NoArguments, list_models, True),
    "read_parameters": Tool(
        "How a picture was made: prompt, seed and settings, from the text in its file.",
        ReadArguments,
        read_parameters,
        True,
    ),
}
