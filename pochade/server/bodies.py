"""What all bodies of all dialects have in common, and how they are read."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, model_validator
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

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
    """Unknown fields are ignored; there is no number that is none, and no half character."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def whole_characters(cls, value: Any) -> Any:
        """JSON can spell halves of characters, which nothing can store or send back."""
        if not _whole(value):
            raise ValueError("a text holds half a character (a lone surrogate)")
        return value


def _whole(value: Any) -> bool:
    if isinstance(value, str):
        if value.isascii():
            return True
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
        return True
    if isinstance(value, dict):
        return all(_whole(name) and _whole(each) for name, each in value.items())
    if isinstance(value, list):
        return all(map(_whole, value))
    return True
