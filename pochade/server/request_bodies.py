"""Reading and validating JSON bodies, for all dialects."""

import json
from collections.abc import Callable, Coroutine
from typing import Any, Self

from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, PrivateAttr, model_validator
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

MAX_DEPTH = 50
"""Maximum nesting of lists and objects in a body. No dialect needs ten."""

MAX_REPORTED = 200
"""Maximum number of unknown fields that are reported."""

MAX_VALUES = 100_000
"""Maximum number of values in a body. Large bodies consist of pictures, each of which is one value; many
small values would block the event loop while they are parsed."""

LARGE_BYTES = 64 * 1024
"""Larger bodies are parsed in a thread."""


class BodyRequest(Request):
    """A request whose JSON is limited in its number of values, and parsed in a thread if it is large."""

    async def json(self) -> Any:
        if not hasattr(self, "_parsed"):
            content = await self.body()
            large = len(content) > LARGE_BYTES
            self._parsed = await run_in_threadpool(parsed, content) if large else parsed(content)
        return self._parsed


class Reply(BaseModel):
    """Base of all replies. A field that is not documented is an error."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Route(APIRoute):
    """A route that uses `BodyRequest`, and replies with the fields that were given only. Pass it to an
    APIRouter as route_class."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "response_model_exclude_unset": True})

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handling(request: Request) -> Response:
            return await handle(BodyRequest(request.scope, request.receive))

        return handling


def parsed(content: bytes) -> Any:
    """Parse JSON. Raises HTTPException for too many values, ValueError for invalid JSON."""
    check_values(content)
    return json.loads(content)


def check_values(content: bytes) -> None:
    """Raise HTTPException for JSON with more than MAX_VALUES values, before it is parsed."""
    # Base64 and names have no commas, and texts have fewer than this.
    if content.count(b",") > MAX_VALUES:
        raise HTTPException(413, f"the body has more than {MAX_VALUES:,} values")


class Body(BaseModel):
    """Base of all bodies: rejects NaN, infinity and lone surrogates; ignores unknown fields (`left_out`)."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, protected_namespaces=())
    _unknown: list[str] = PrivateAttr(default_factory=list)

    @model_validator(mode="wrap")
    @classmethod
    def unknown_fields(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Record the names of unknown fields."""
        body = handler(value)
        if isinstance(value, dict):
            body._unknown = [str(name) for name in value if name not in cls.model_fields]
        return body

    @model_validator(mode="before")
    @classmethod
    def no_surrogates(cls, value: Any) -> Any:
        """Reject lone surrogates, which JSON can express but which can be neither stored nor sent back."""
        if not _is_encodable(value):
            raise ValueError("a text contains a lone surrogate")
        return value


def left_out(body: Body) -> list[str]:
    """Return the names of unknown fields that a client sent, including nested ones ("hires.x")."""
    names = list(body._unknown)
    for field in type(body).model_fields:
        inner = getattr(body, field)
        for each in inner if isinstance(inner, list) else [inner]:
            if isinstance(each, Body):
                names += [f"{field}.{name}" for name in left_out(each)]
    return [name[:100] for name in names[:MAX_REPORTED]]


def _is_encodable(value: Any) -> bool:
    """Return whether all texts in a value can be encoded. Raises ValueError for too deep nesting."""
    todo = [(value, 0)]
    while todo:
        each, depth = todo.pop()
        if isinstance(each, str):
            if not each.isascii() and not _encodable(each):
                return False
        elif isinstance(each, dict | list):
            if depth == MAX_DEPTH:
                raise ValueError(f"the body is nested more than {MAX_DEPTH} levels deep")
            inner = [*each, *each.values()] if isinstance(each, dict) else each
            todo += [(one, depth + 1) for one in inner]
    return True


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
