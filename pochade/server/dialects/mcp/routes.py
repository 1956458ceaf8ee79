"""The Model Context Protocol over HTTP, /mcp: for assistants that call tools. Needs the extra 'mcp'.

Each request stands for itself: there are no sessions to keep, to steal or to lose in a restart. The package
that speaks the protocol takes a second to import, so that is done when somebody asks for the first time.
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
"""Routes whose bodies may be large, see `receiving.BodyLimits`."""
NEEDED = ("mcp", "mcp_types")
"""The packages; the second one came with the version that we need."""

PARSE_ERROR, INVALID_REQUEST, INTERNAL_ERROR = -32700, -32600, -32603
"""Of JSON-RPC 2.0, section 5.1."""


def there() -> bool:
    """Whether the extra is installed. Imports nothing."""
    return all(find_spec(name) is not None for name in NEEDED)


def answer(trouble: ErrorReply, request_id: str) -> Response:
    """An error in this dialect, where no tool has been reached."""
    code = INTERNAL_ERROR if trouble.status >= 500 else INVALID_REQUEST
    error = {
        "code": PARSE_ERROR if trouble.code == "malformed" else code,
        "message": trouble.message,
        "data": {"code": trouble.code},
    }
    body = {"jsonrpc": "2.0", "id": None, "error": error}
    return JSONResponse(body, trouble.status, headers=dict(trouble.headers or {}))


class Endpoint:
    """The ASGI application at /mcp, over one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._beginning = asyncio.Lock()
        self._manager: StreamableHTTPSessionManager | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            # A stream for what the server says by itself (GET), and sessions to end (DELETE), are not here.
            allow = {"Allow": "POST"}
            raise ErrorReply(405, "method_not_allowed", "only POST is supported", headers=allow)
        manager = await self._ready()
        try:
            content = await Request(scope, receive).body()
        except ClientDisconnect:
            return
        await run_in_threadpool(check_values, content)
        await manager.handle_request(scope, _again(content, receive), send)

    async def _ready(self) -> "StreamableHTTPSessionManager":
        async with self._beginning:
            if self._manager is None:
                manager = await run_in_threadpool(_manager, self._service)
                runs = asyncio.Event()
                self._service.later(_keep(manager, runs))
                await runs.wait()
                self._manager = manager
            return self._manager


def _again(content: bytes, receive: Receive) -> Receive:
    """`receive` after the body has been read: tells it once more, then what comes after it."""
    told = False

    async def receiving() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": content, "more_body": False}

    return receiving


def _manager(service: Service) -> "StreamableHTTPSessionManager":
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from pochade.server.dialects.mcp.tools import make_server

    return StreamableHTTPSessionManager(
        make_server(service), stateless=True, max_request_body_size=service.limits.body_bytes
    )


async def _keep(manager: "StreamableHTTPSessionManager", runs: asyncio.Event) -> None:
    """What the manager starts belongs to one task, which is cancelled when the service closes."""
    async with manager.run():
        runs.set()
        await asyncio.Event().wait()
