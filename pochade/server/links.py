"""Signed links that open one picture each, without a key, for a limited time."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from pochade.jobs import history
from pochade.jobs.records import Picture
from pochade.server.downloads import converted, file_of
from pochade.server.middleware import ErrorReply

if TYPE_CHECKING:
    from pochade.server.service import Service

PREFIX = "/links"
VALID_S = 3600
"""Lifetime, as of the links of OpenAI's API."""

KINDS = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


class Links:
    """Signs and checks links. The secret is new at each start of the server, which ends all earlier links."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._secret, self._clock = secrets.token_bytes(32), clock

    def path(self, picture: str, kind: str = "png", quality: int = 95) -> str:
        """Return the path and query of a link to a picture, in a format of KINDS, with its quality, 0 to
        100."""
        expires = int(self._clock()) + VALID_S
        signature = self._signature(picture, kind, quality, expires)
        return f"{PREFIX}/{picture}.{kind}?quality={quality}&expires={expires}&signature={signature}"

    def check(self, picture: str, kind: str, quality: int, expires: int, signature: str) -> None:
        """Raise ErrorReply (403) for a link that is invalid or has expired."""
        expected = self._signature(picture, kind, quality, expires)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise ErrorReply(403, "forbidden", "this link was not made by this server since it started")
        if self._clock() > expires:
            raise ErrorReply(403, "forbidden", "this link has expired; links are valid for one hour")

    def _signature(self, picture: str, kind: str, quality: int, expires: int) -> str:
        text = f"{picture}\n{kind}\n{quality}\n{expires}".encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()


def router(service: "Service") -> APIRouter:
    """Return the route of the links. It needs no key."""
    routes = APIRouter(prefix=PREFIX)

    @routes.get("/{picture}.{kind}", response_class=Response, include_in_schema=False)
    async def linked(
        picture: str,
        kind: str,
        quality: Annotated[int, Query(ge=0, le=100)],
        expires: int,
        signature: Annotated[str, Query(max_length=200)],
    ) -> Response:
        service.links.check(picture, kind, quality, expires, signature)
        found = await service.ask(history.find_picture, picture)
        if found is None:
            raise ErrorReply(404, "not_found", "the picture was removed")
        content = await run_in_threadpool(content_of, service, found, kind, quality)
        headers = {"cache-control": f"private, max-age={VALID_S}"}
        return Response(content, media_type=KINDS[kind], headers=headers)

    return routes


def content_of(service: "Service", picture: Picture, kind: str, quality: int) -> bytes:
    """Return a picture's content in a format of KINDS. Raises ErrorReply if the picture was removed."""
    content = file_of(service.storage, picture)
    if kind == "png":
        return content
    return converted(content, kind.upper(), picture.text, quality=quality)
