"""Converts exceptions into replies that every dialect can format."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from pochade.errors import PochadeError
from pochade.images.metadata import encodable
from pochade.jobs.database import StoreBusy
from pochade.jobs.errors import is_of_the_disk, without_paths
from pochade.jobs.limits import QueueFull
from pochade.server.middleware import BUG, ErrorReply
from pochade.server.submission import Conflict, Stopping

DISK_FULL = "the server's disk is full or not writable, and nothing was saved; ask the server's administrator"
CODES = {400: "malformed", 404: "not_found", 405: "method_not_allowed", 408: "timeout", 413: "too_large"}


def error_reply(error: Exception) -> ErrorReply:
    """Return the reply for an exception. A bug is reported without details; the middleware logs it."""
    if isinstance(error, ErrorReply):
        return replace(error, message=encodable(error.message))
    if isinstance(error, RequestValidationError):
        return invalid(error.errors())
    if isinstance(error, HTTPException) and not is_of_the_disk(error.__cause__):
        # Starlette reports a full temporary folder as a malformed form.
        code = CODES.get(error.status_code, "invalid")
        return ErrorReply(error.status_code, code, str(error.detail), headers=error.headers)
    if isinstance(error, QueueFull):
        return ErrorReply(429, "too_many", str(error), headers={"Retry-After": "5"})
    if isinstance(error, Conflict):
        return ErrorReply(409, "conflict", str(error))
    if isinstance(error, Stopping):
        return ErrorReply(503, "stopping", str(error), headers={"Retry-After": "5"})
    if isinstance(error, StoreBusy):
        busy = "the job database is busy; try again in a moment"
        return ErrorReply(503, "busy", busy, headers={"Retry-After": "5"})
    if is_of_the_disk(error) or isinstance(error, HTTPException):
        return ErrorReply(507, "no_room", DISK_FULL)
    if isinstance(error, PochadeError):
        message = encodable(without_paths(str(error)))
        return ErrorReply(422, "invalid", message)
    return ErrorReply(500, "internal", BUG)


def invalid(errors: Sequence[Any]) -> ErrorReply:
    """Return the reply for the first error in a body or query. errors: as listed by pydantic."""
    first = errors[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    if first["type"] == "value_error" and not place:
        return ErrorReply(422, "invalid", first["msg"])
    if first["type"] == "json_invalid" or not place:
        return ErrorReply(400, "malformed", "the body is not a JSON object")
    field = encodable(".".join(place)[:200])  # names of fields may contain lone surrogates
    return ErrorReply(422, "invalid", f"{field}: {first['msg']}", field)
