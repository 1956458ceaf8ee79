"""The application: dialects over one desk, behind one guard, and the page."""

import secrets
import time
from collections.abc import Sequence
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
from pochade.server import links, session
from pochade.server.desk import Desk
from pochade.server.dialects import a1111, a1111_controlnet, mcp, native, openai
from pochade.server.guard import LOOPBACK, Answer, Guard, Rules, Trouble
from pochade.server.rates import Buckets, Rate
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


def make_app(desk: Desk, names: Sequence[str] = (), *, local: bool = True, rate: Rate = REQUESTS) -> ASGIApp:
    """The ASGI application, over a desk that the caller opens before and closes after.

    names: by which the server may be called. local: it listens on this computer only, and any other name than
    that of this computer is a trick; else numbers are names too.
    """

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
            return PlainTextResponse("Pochade draws. There is no page here, only APIs: see docs/api.md.")
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    if STATIC.is_dir():
        app.mount("/static", StaticFiles(directory=STATIC), name="static")
    rules = Rules(
        keys=desk.keys,
        names=(*LOOPBACK, *(name.lower() for name in names)),
        numbers=not local,
        body_bytes=desk.limits.body_bytes,
    )
    return Guard(
        app,
        rules,
        ANSWERS,
        partial(_logged_in, desk),
        Buckets(rate, time.monotonic),
        desk.door.owner,
        secrets.token_hex,
    )


async def _logged_in(desk: Desk, token: str) -> str | None:
    """`session.owner_of` for the guard, which knows no other errors than Trouble."""
    try:
        return await session.owner_of(desk, token)
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
