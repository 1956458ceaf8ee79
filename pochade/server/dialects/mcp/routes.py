"""The Model Context Protocol over HTTP, /mcp: for assistants that call tools. Needs the extra 'mcp'.

The server is stateless: there are no sessions to store, to steal or to lose in a restart. The package `mcp`
takes a second to import, so it is imported at the first request.
"""

import asyncio
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope, Send

from pochade.server.middleware import ErrorReply
from pochade.server.request_bodies import check_values
from pochade.server.service import Service

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

PREFIX = "/mcp"
BODIES: Mapping[str, int | None] = {"": None}
"""Routes whose bodies may be large, see `receive.BodyLimits`."""
PACKAGES = ("mcp", "mcp_types")
"""The required packages; `mcp_types` was added in the required version."""

PARSE_ERROR, INVALID_REQUEST, INTERNAL_ERROR = -32700, -32600, -32603
"""Error codes of JSON-RPC 2.0, section 5.1."""


def is_installed() -> bool:
    """Return whether the extra is installed, without importing it."""
    return all(find_spec(name) is not None for name in PACKAGES)


def answer(trouble: ErrorReply, request_id: str) -> Response:
    """Format an error that occurs before a tool is called."""
    code = INTERNAL_ERROR if trouble.status >= 500 else INVALID_REQUEST
    error = {
        "code": PARSE_ERROR if trouble.code == "malformed" else code,
        "message": trouble.message,
        "data": {"code": trouble.code},
    }
    body = {"jsonrpc": "2.0", "id": None, "error": error}
    return JSONResponse(body, trouble.status, headers=dict(trouble.headers or {}))


class Endpoint:
    """The ASGI application at /mcp."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._start_lock = asyncio.Lock()
        self._manager: StreamableHTTPSessionManager | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            # Server-initiated streams (GET) and ending sessions (DELETE) are not supported.
            allow = {"Allow": "POST"}
            raise ErrorReply(405, "method_not_allowed", "only POST is supported", headers=allow)
        manager = await self._ready()
        try:
            content = await Request(scope, receive).body()
        except ClientDisconnect:
            return
        await run_in_threadpool(check_values, content)
        await manager.handle_request(scope, _replay(content, receive), send)

    async def _ready(self) -> "StreamableHTTPSessionManager":
        async with self._start_lock:
            if self._manager is None:
                manager = await run_in_threadpool(_manager, self._service)
                started = asyncio.Event()
                self._service.later(_run_manager(manager, started))
                await started.wait()
                self._manager = manager
            return self._manager


def _replay(content: bytes, receive: Receive) -> Receive:
    """Return a `receive` that replays a body that has been read, then continues with `receive`."""
    replayed = False

    async def receiving() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": content, "more_body": False}

    return receiving


def _manager(service: Service) -> "StreamableHTTPSessionManager":
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from pochade.server.dialects.mcp.tools import make_server

    return StreamableHTTPSessionManager(
        make_server(service), stateless=True, max_request_body_size=service.limits.body_bytes
    )


async def _run_manager(manager: "StreamableHTTPSessionManager", started: asyncio.Event) -> None:
    """Run the manager in one task, which is cancelled when the service closes."""
    async with manager.run():
        started.set()
        await asyncio.Event().wait()
