"""What all bodies of all dialects have in common, and how they are read."""

import json
from collections.abc import Callable, Coroutine
from typing import Any, Self

from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, PrivateAttr, model_validator
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

MOST_DEEP = 50
"""Lists and tables within one another in a body. No dialect has ten."""

MOST_NAMED = 200
"""Of unknown fields, so many names are told."""

MOST_VALUES = 100_000
"""Of a body. What is large in one are its pictures, which are one value each and quickly passed over; so many
small values would keep everyone waiting while Python goes through them."""

LARGE_BYTES = 64 * 1024
"""A body of more is read in a thread."""


class BodyRequest(Request):
    """A request whose JSON is bounded in its values, and read in a thread where it is large."""

    async def json(self) -> Any:
        if not hasattr(self, "_parsed"):
            content = await self.body()
            large = len(content) > LARGE_BYTES
            self._parsed = await run_in_threadpool(parsed, content) if large else parsed(content)
        return self._parsed


class Route(APIRoute):
    """A route that reads its body so. Give it to an APIRouter as route_class."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handling(request: Request) -> Response:
            return await handle(BodyRequest(request.scope, request.receive))

        return handling


def parsed(content: bytes) -> Any:
    """JSON. Raises HTTPException for too many values, ValueError for what is none."""
    check_values(content)
    return json.loads(content)


def check_values(content: bytes) -> None:
    """Raises HTTPException for JSON of more than MOST_VALUES values, before it is read."""
    # Neither base64 nor a name has commas; texts have fewer than this.
    if content.count(b",") > MOST_VALUES:
        raise HTTPException(413, f"the body has more than {MOST_VALUES:,} values")


class Body(BaseModel):
    """There is no number that is none, and no half character. Unknown fields are left out, see `left_out`."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, protected_namespaces=())
    _unknown: list[str] = PrivateAttr(default_factory=list)

    @model_validator(mode="wrap")
    @classmethod
    def unknown_fields(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Remembers their names."""
        body = handler(value)
        if isinstance(value, dict):
            body._unknown = [str(name) for name in value if name not in cls.model_fields]
        return body

    @model_validator(mode="before")
    @classmethod
    def whole_characters(cls, value: Any) -> Any:
        """JSON can spell halves of characters, which nothing can store or send back."""
        if not _whole(value):
            raise ValueError("a text contains half a character (a lone surrogate)")
        return value


def left_out(body: Body) -> list[str]:
    """Names of fields that a client sent and that are unknown, those of bodies within it too ("hires.x")."""
    names = list(body._unknown)
    for field in type(body).model_fields:
        inner = getattr(body, field)
        for each in inner if isinstance(inner, list) else [inner]:
            if isinstance(each, Body):
                names += [f"{field}.{name}" for name in left_out(each)]
    return [name[:100] for name in names[:MOST_NAMED]]


def _whole(value: Any) -> bool:
    """Whether every text in it can be stored. Raises ValueError for what nests too deep."""
    todo = [(value, 0)]
    while todo:
        each, depth = todo.pop()
        if isinstance(each, str):
            if not each.isascii() and not _encodable(each):
                return False
        elif isinstance(each, dict | list):
            if depth == MOST_DEEP:
                raise ValueError(f"the body is nested more than {MOST_DEEP} levels deep")
            inner = [*each, *each.values()] if isinstance(each, dict) else each
            todo += [(one, depth + 1) for one in inner]
    return True


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
