"""The application: dialects over one desk, behind one guard, and the page."""

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
from pochade.server.desk import Desk
from pochade.server.dialects import a1111, a1111_controlnet, mcp, native, openai
from pochade.server.guard import Answer, Guard, Rules, Trouble
from pochade.server.names import ANY, LOOPBACK, read_names
from pochade.server.proxies import Forwarded, read_networks
from pochade.server.rates import Buckets, Rate
from pochade.server.receiving import BodyLimits, Session
from pochade.server.thumbnails import Thumbnails
from pochade.server.troubles import trouble_of

STATIC = Path(__file__).parent / "static"
REQUESTS = Rate(per_s=200, burst=2000)
ANSWERS: Sequence[tuple[str, Answer]] = (
    (a1111.PREFIX, a1111.answer),
    (a1111_controlnet.PREFIX, a1111.answer),
    (openai.PREFIX, openai.answer),
    (mcp.PREFIX, mcp.answer),
    ("", native.answer),
)
BODIES: Mapping[str, int | None] = {
    f"{dialect.PREFIX}{route}": size
    for dialect in (native, a1111, a1111_controlnet, openai, mcp)
    for route, size in dialect.BODIES.items()
}
"""The bodies that may be larger than `receiving.SMALL_BYTES`, see `BodyLimits`."""


def make_app(
    desk: Desk,
    names: Sequence[str] = (),
    *,
    own_names: Sequence[str] = (),
    local: bool = True,
    rate: Rate = REQUESTS,
) -> ASGIApp:
    """The ASGI application, over a desk that the caller opens before and closes after.

    names: that were given for this server (--allow-host). own_names: by which it may be called too.
    local: it listens on this computer only, and any other name than that of this computer is a trick; else
    numbers are names too. Raises InvalidRequest for names and proxies that are none.
    """
    allowed, trusted = read_names(names), read_networks(desk.options.trusted_proxies)
    app = FastAPI(
        title="Pochade",
        version=pochade.__version__,
        openapi_url=f"{native.PREFIX}/openapi.json",
        docs_url=None,  # both load scripts from elsewhere
        redoc_url=None,
    )
    for kind in (HTTPException, RequestValidationError, PochadeError, Trouble, Exception):
        app.add_exception_handler(kind, _answered)
    app.include_router(native.router(desk, Thumbnails()))
    app.include_router(a1111.router(desk))
    app.include_router(a1111_controlnet.router(desk))
    app.include_router(openai.router(desk))
    app.include_router(links.router(desk))
    if mcp.there():
        app.router.routes.append(Route(mcp.PREFIX, mcp.Endpoint(desk), include_in_schema=False))

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        if not (STATIC / "index.html").is_file():
            return PlainTextResponse("This server has no page, only APIs: see docs/api.md.")
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    if STATIC.is_dir():
        app.mount("/static", StaticFiles(directory=STATIC), name="static")
    rules = Rules(
        keys=desk.keys,
        names=(*LOOPBACK, *(name.lower() for name in own_names), *allowed),
        numbers=not local,
        bodies=BodyLimits(desk.limits.body_bytes, BODIES),
        allowed=tuple(name for name in allowed if name != ANY),
    )
    guard = Guard(
        app,
        rules,
        ANSWERS,
        partial(_logged_in, desk),
        Buckets(rate, time.monotonic),
        desk.door.owner,
        secrets.token_hex,
        desk.clock,
    )
    return Forwarded(guard, trusted)


async def _logged_in(desk: Desk, token: str) -> Session | None:
    """`Sessions.find` for the guard, which knows no other errors than Trouble."""
    try:
        return await desk.sessions.find(token)
    except PochadeError as error:
        raise trouble_of(error) from error


async def _answered(request: Request, error: Exception) -> Response:
    """An error in the shape of the dialect that was spoken."""
    path = request.scope["path"]
    answer = next(answer for prefix, answer in ANSWERS if path.startswith(prefix))
    trouble = trouble_of(error)
    if trouble.code == "no_room":
        log(f"{error.__cause__ or error}")
    return answer(trouble, "")
