"""The ASGI application: the dialects over one service, the middleware before them, and the page."""

import secrets
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

import pochade
from pochade.errors import PochadeError
from pochade.jobs.log import log
from pochade.server import links
from pochade.server.dialects.a1111 import controlnet_routes
from pochade.server.dialects.a1111 import routes as a1111
from pochade.server.dialects.mcp import routes as mcp
from pochade.server.dialects.native import routes as native
from pochade.server.dialects.openai import routes as openai
from pochade.server.errors import error_reply
from pochade.server.hostnames import ANY, LOOPBACK, read_names
from pochade.server.middleware import AccessRules, Answer, ErrorReply, GuardMiddleware
from pochade.server.proxies import ProxyMiddleware, read_networks
from pochade.server.rate_limit import Rate, TokenBuckets
from pochade.server.receive import BodyLimits, LoginSession
from pochade.server.service import Service
from pochade.server.thumbnails import Thumbnails

STATIC = Path(__file__).parent / "static"
REQUESTS = Rate(per_s=200, burst=2000)
ANSWERS: Sequence[tuple[str, Answer]] = (
    (a1111.PREFIX, a1111.answer),
    (controlnet_routes.PREFIX, a1111.answer),
    (openai.PREFIX, openai.answer),
    (mcp.PREFIX, mcp.answer),
    ("", native.answer),
)
BODIES: Mapping[str, int | None] = {
    f"{dialect.PREFIX}{route}": size
    for dialect in (native, a1111, controlnet_routes, openai, mcp)
    for route, size in dialect.BODIES.items()
}
"""Routes whose bodies may be large, see `receive.BodyLimits`."""


def make_app(
    service: Service,
    names: Sequence[str] = (),
    *,
    own_names: Sequence[str] = (),
    local: bool = True,
    rate: Rate = REQUESTS,
) -> ASGIApp:
    """Return the ASGI application of a service, which the caller opens and closes.

    names: host names given with --allow-host. own_names: the server's own names. local: it listens on this
    computer only, so any other host name is refused; otherwise IP addresses are allowed too. Raises
    InvalidRequest for invalid names and proxies.
    """
    allowed, trusted = read_names(names), read_networks(service.options.trusted_proxies)
    app = FastAPI(
        title="Pochade",
        version=pochade.__version__,
        openapi_url=f"{native.PREFIX}/openapi.json",
        docs_url=None,  # both load scripts from other hosts
        redoc_url=None,
    )
    for kind in (HTTPException, RequestValidationError, PochadeError, ErrorReply, Exception):
        app.add_exception_handler(kind, _answered)
    app.include_router(native.router(service, Thumbnails()))
    app.include_router(a1111.router(service))
    app.include_router(controlnet_routes.router(service))
    app.include_router(openai.router(service))
    app.include_router(links.router(service))
    if mcp.is_installed():
        app.router.routes.append(Route(mcp.PREFIX, mcp.Endpoint(service), include_in_schema=False))

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        if not (STATIC / "index.html").is_file():
            return PlainTextResponse("This server has no page, only APIs: see docs/api.md.")
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    if STATIC.is_dir():
        app.mount("/static", StaticFiles(directory=STATIC), name="static")
    rules = AccessRules(
        keys=service.keys,
        names=(*LOOPBACK, *(name.lower() for name in own_names), *allowed),
        numbers=not local,
        bodies=BodyLimits(service.limits.body_bytes, BODIES),
        allowed=tuple(name for name in allowed if name != ANY),
    )
    guard = GuardMiddleware(
        app,
        rules,
        ANSWERS,
        partial(_logged_in, service),
        TokenBuckets(rate, time.monotonic),
        service.door.owner,
        secrets.token_hex,
        service.clock,
    )
    return ProxyMiddleware(guard, trusted)


async def _logged_in(service: Service, token: str) -> LoginSession | None:
    """`Sessions.find` for the middleware, which handles ErrorReply only."""
    try:
        return await service.sessions.find(token)
    except PochadeError as error:
        raise error_reply(error) from error


async def _answered(request: Request, error: Exception) -> Response:
    """Format an error for the dialect of the request."""
    path = request.scope["path"]
    answer = next(answer for prefix, answer in ANSWERS if path.startswith(prefix))
    trouble = error_reply(error)
    if trouble.code == "no_room":
        log(f"{error.__cause__ or error}")
    return answer(trouble, "")
