"""Errors of every kind, as what is told of them whatever the dialect."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from pochade.errors import OutputError, PochadeError
from pochade.images.metadata import encodable
from pochade.jobs.limits import QueueFull
from pochade.jobs.messages import without_paths
from pochade.server.guard import BUG, Trouble
from pochade.server.handing_in import Stopping

CODES = {400: "malformed", 404: "not_found", 405: "method_not_allowed", 408: "timeout", 413: "too_large"}


def trouble_of(error: Exception) -> Trouble:
    """What to say of an error. Of a bug no more than that it is one: the guard logs it."""
    if isinstance(error, Trouble):
        return replace(error, message=encodable(error.message))
    if isinstance(error, RequestValidationError):
        return invalid(error.errors())
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


def invalid(errors: Sequence[Any]) -> Trouble:
    """The first thing that is wrong with a body or a query. errors: as pydantic lists them."""
    first = errors[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    if first["type"] == "value_error" and not place:
        return Trouble(422, "invalid", first["msg"])
    if first["type"] == "json_invalid" or not place:
        return Trouble(400, "malformed", "the body is not a JSON object")
    field = encodable(".".join(place)[:200])  # names of fields may be half characters
    return Trouble(422, "invalid", f"{field}: {first['msg']}", field)
