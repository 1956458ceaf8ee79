"""The tools. An error in a tool is returned as its result, so that the language model can read it."""

import asyncio
import base64
import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mcp import MCPError, types
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
from pochade.server.views import model_descriptions, own_picture, picture_parameters

LARGEST_BYTES, SIDES, QUALITY = 500_000, (1024, 768, 512, 384, 256), 85
"""Assistants refuse results of a megabyte, and base64 takes 1.3 bytes per byte. If the files are larger in
total, JPEGs of the first of these sides that fits are sent, with links to the files."""

INSTRUCTIONS = (
    "Draws pictures with Stable Diffusion. Describe the picture in a few words and phrases, the most"
    " important ones first; the model does not see the conversation. Each picture has an id: give"
    ' "picture:ID" as the image of edit_image to edit it further.'
)

Context = ServerRequestContext[Any, Any]
Content = types.ContentBlock
Run = Callable[["Call", Any], Awaitable[list[Content]]]


@dataclass(frozen=True)
class Call:
    """A call of a tool: the user and the session that receives progress."""

    service: Service
    context: Context

    @property
    def owner(self) -> str:
        """The authenticated user; over standard input there is only the local user."""
        request = self.context.request
        return LOCAL if request is None else str(request.state.owner)

    def link(self, picture: Picture) -> str:
        """Return the URL of the file: over standard input a file: URL, otherwise one of this server."""
        if self.context.request is None:
            return self.service.storage.output(picture.path).absolute().as_uri()
        base = str(self.context.request.base_url).rstrip("/")
        # The reader may have no key, so the link is signed. Without keys, the plain URL does not expire.
        keyed = self.service.links.path(picture.id)
        return f"{base}{keyed}" if self.service.keys else f"{base}/api/v1/pictures/{picture.id}"

    def inputs(self) -> Inputs:
        return Inputs(lambda own: own_picture(self.service, self.owner, own), self.service.check_picture)


@dataclass(frozen=True)
class Tool:
    description: str
    arguments: type[Arguments]
    run: Run
    read_only: bool = False

    def describe(self, name: str) -> types.Tool:
        """Return the tool's description for clients."""
        hints = types.ToolAnnotations(
            read_only_hint=self.read_only, destructive_hint=False, open_world_hint=False
        )
        schema = self.arguments.model_json_schema()
        return types.Tool(name=name, description=self.description, input_schema=schema, annotations=hints)


def make_server(service: Service) -> Server[Any]:
    """Return the MCP server of a service, for any transport."""
    descriptions = [tool.describe(name) for name, tool in TOOLS.items()]

    async def list_tools(context: Context, params: object) -> types.ListToolsResult:
        return types.ListToolsResult(tools=descriptions)

    async def call_tool(context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        tool = TOOLS.get(params.name)
        if tool is None:
            unknown = f"there is no tool '{encodable(params.name[:100])}'; one of: {', '.join(TOOLS)}"
            raise MCPError(types.INVALID_PARAMS, unknown)
        try:
            arguments = tool.arguments.model_validate(params.arguments or {})
            return types.CallToolResult(content=await tool.run(Call(service, context), arguments))
        except ValidationError as error:
            trouble = invalid(error.errors())
        except Exception as error:
            trouble = error_reply(error)
            if trouble.code == "internal":
                traceback.print_exc(file=sys.stderr)
        return types.CallToolResult(content=[_text(trouble.message)], is_error=True)

    return Server(
        "pochade",
        version=pochade.__version__,
        title="Pochade",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


# --- drawing ----------------------------------------------------------------------------------------------


async def _cancel_submission(service: Service, submitting: "asyncio.Task[LiveJob]") -> None:
    """Cancel a job whose client disconnected during its submission."""
    with suppress(PochadeError):
        live = await submitting
        await service.cancel(live.owner, live.id)


async def draw(call: Call, arguments: DrawArguments) -> list[Content]:
    """Run a job and return its pictures; cancel it if the client disconnects. Raises the job's error."""
    service, owner = call.service, call.owner
    prepare = service.decoding if isinstance(arguments, EditArguments) else run_in_threadpool
    order = await prepare(arguments.submitted_order, service.catalogue, call.inputs())
    submitting = asyncio.create_task(service.submit(owner, order))
    try:
        live = await asyncio.shield(submitting)
    except asyncio.CancelledError:
        service.later(_cancel_submission(service, submitting))
        raise
    watcher = service.live_jobs.watch(owner, live.id)
    try:
        await _report(call, live, watcher)
        job, pictures = await service.wait(live)
    finally:
        service.live_jobs.unwatch(watcher)
        # A server that is stopping keeps the job and draws it after its next start, for the history.
        if live.id in service.live_jobs.live and not service.stopping:
            service.later(service.cancel(owner, live.id))
    if job.state != FINISHED:
        raise failure(live, job.error) if job.error else ErrorReply(409, "conflict", "the job was cancelled")
    found: list[Content] = []
    for picture in pictures:
        found += await run_in_threadpool(_shown, call, picture, LARGEST_BYTES // len(pictures))
    return found


async def _report(call: Call, live: LiveJob, watcher: Watcher) -> None:
    """Report progress in percent until the job ends. MCP requires that it increases with each report."""
    reported = -1.0
    async for event in watcher:
        percent = round(100 * live.share(), 1)
        if percent <= reported or event["type"] not in ("queued", "progress"):
            continue
        reported = percent
        message = f"step {live.step} of {live.steps}"
        if event["type"] == "queued":
            message = f"queued at position {event['position']}"
        await call.context.session.report_progress(percent, 100.0, message)


def _shown(call: Call, picture: Picture, max_bytes: int) -> list[Content]:
    """Return a picture of at most `max_bytes` bytes, a link to its file, and its parameters text."""
    content, kind = file_of(call.service.storage, picture), "image/png"
    if len(content) > max_bytes:
        content, kind = _smaller(content, picture.text, max_bytes), "image/jpeg"
    return [
        types.ImageContent(data=base64.b64encode(content).decode(), mime_type=kind),
        types.ResourceLink(
            name=f"{picture.id}.png", uri=call.link(picture), mime_type="image/png", size=picture.bytes
        ),
        _text(f"picture:{picture.id} ({picture.width} x {picture.height} px)\n{picture.text}"),
    ]


def _smaller(content: bytes, text: str, max_bytes: int) -> bytes:
    """Convert a PNG to a JPEG with its text, of at most `max_bytes` bytes if the smallest side allows."""
    for side in SIDES:
        smaller = converted(content, "JPEG", text, quality=QUALITY, largest=side)
        if len(smaller) <= max_bytes:
            break
    return smaller


# --- queries ----------------------------------------------------------------------------------------------


async def list_models(call: Call, arguments: NoArguments) -> list[Content]:
    """List names for the arguments of the other tools."""
    return _json(
        {
            "models": model_descriptions(call.service),
            "loras": list(call.service.catalogue.loras),
            "samplers": [sampler.label for sampler in SAMPLERS.values()],
            "schedules": [AUTOMATIC, *SCHEDULES],
        }
    )


async def read_parameters(call: Call, arguments: ReadArguments) -> list[Content]:
    """Return the generation parameters of a picture file."""

    def read() -> Mapping[str, Any]:
        inputs = call.inputs()
        return picture_parameters(call.service, inputs.contents[inputs.add(arguments.image, "image")])

    return _json(await call.service.decoding(read))


def _json(found: Mapping[str, Any]) -> list[Content]:
    return [_text(json.dumps(found, ensure_ascii=False))]


def _text(text: str) -> types.TextContent:
    return types.TextContent(text=encodable(text))


TOOLS: Mapping[str, Tool] = {
    "generate_image": Tool("Draw a picture from a prompt.", DrawArguments, draw),
    "edit_image": Tool(
        "Edit a picture: all of it, more or less strongly, or only the white area of a mask.",
        EditArguments,
        draw,
    ),
    "list_models": Tool("Names of models, LoRAs, samplers and schedules.", NoArguments, list_models, True),
    "read_parameters": Tool(
        "Read the prompt, seed and settings of a picture from the text in its file.",
        ReadArguments,
        read_parameters,
        True,
    ),
}
