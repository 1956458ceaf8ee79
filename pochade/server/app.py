"""The application: dialects over one desk, behind one guard, and the page."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

import pochade
from pochade.errors import OutputError, PochadeError
from pochade.images.metadata import encodable
from pochade.jobs.limits import QueueFull
from pochade.jobs.messages import without_paths
from pochade.server import session
from pochade.server.desk import Desk, Stopping
from pochade.server.dialects import a1111, native, openai
from pochade.server.guard import BUG, LOOPBACK, Answer, Guard, Rules, Trouble
from pochade.server.rates import Buckets, Rate
from pochade.server.thumbnails import Thumbnails

STATIC = Path(__file__).parent / "static"
REQUESTS = Rate(per_s=200, burst=2000)
ANSWERS: Sequence[tuple[str, Answer]] = (
    (a1111.PREFIX, a1111.answer),
    (openai.PREFIX, openai.answer),
    ("", native.answer),
)
CODES = {400: "malformed", 404: "not_found", 405: "method_not_allowed", 408: "timeout", 413: "too_large"}


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
    app.include_router(openai.router(desk))

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
        partial(session.owner_of, desk),
        Buckets(rate, time.monotonic),
        desk.failures,
        secrets.token_hex,
    )


async def _answered(request: Request, error: Exception) -> Response:
    """An error in the shape of the dialect that was spoken."""
    path = request.scope["path"]
    answer = next(answer for prefix, answer in ANSWERS if path.startswith(prefix))
    return answer(trouble_of(error), "")


def trouble_of(error: Exception) -> Trouble:
    """What to say of an error. Of a bug no more than that it is one: the guard logs it."""
    if isinstance(error, Trouble):
        return replace(error, message=encodable(error.message))
    if isinstance(error, RequestValidationError):
        return _invalid(error.errors())
    if isinstance(error, HTTPException):
        code = CODES.get(error.status_code, "invalid")
        return Trouble(error.status_code, code, str(error.detail), headers=error.headers)
    if isinstance(error, QueueFull):
        return Trouble(429, "too_many", str(error), headers={"Retry-After": "5"})
    if isinstance(error, Stopping):
        return Trouble(503, "stopping", str(error), headers={"Retry-After": "5"})
    if isinstance(error, OutputError):
        return Trouble(507, "no_room", "the server could not write to its disk; ask whoever runs it")
    if isinstance(error, PochadeError):
        message = encodable(without_paths(str(error)))
        return Trouble(422, "invalid", message)
    return Trouble(500, "internal", BUG)


def _invalid(errors: Sequence[Any]) -> Trouble:
    """The first thing that is wrong with a body or a query."""
    first = errors[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    if first["type"] == "value_error" and not place:
        return Trouble(422, "invalid", first["msg"])
    if first["type"] == "json_invalid" or not place:
        return Trouble(400, "malformed", "the body is not a JSON object")
    field = encodable(".".join(place)[:200])  # names of fields may be half characters
    return Trouble(422, "invalid", f"{field}: {first['msg']}", field)
