"""Login and logout: the page gets a cookie instead of a key that scripts could read."""

import asyncio
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from pochade.jobs import accounts
from pochade.server.auth import Keys
from pochade.server.middleware import COOKIE, ErrorReply, cookie_of
from pochade.server.receive import LoginSession

if TYPE_CHECKING:
    from pochade.server.service import Service

LASTS_S = 30 * 24 * 3600
MAX_CACHED = 1000
"""Maximum number of sessions in memory; others are read from the store again."""

TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
"""The form of `secrets.token_urlsafe(32)`. Nothing else is looked up."""

Ask = Callable[..., Awaitable[Any]]
"""`Service.ask`: runs a function of the store in a thread."""


class Sessions:
    """The sessions of one server, on one event loop. clock: seconds since 1970."""

    def __init__(self, keys: Keys, ask: Ask, clock: Callable[[], float]) -> None:
        self._keys, self._ask, self._clock = keys, ask, clock
        self._kept: OrderedDict[str, LoginSession] = OrderedDict()
        # Includes sessions that only open streams still use, so that logout ends these too.
        self._known: WeakValueDictionary[str, LoginSession] = WeakValueDictionary()
        self._restoring, self._closed = 0, set[str]()
        self._reading: dict[str, asyncio.Task[LoginSession | None]] = {}

    async def open(self, owner: str) -> str:
        """Open a session for a user; return the cookie's value."""
        token = secrets.token_urlsafe(32)
        proof = await run_in_threadpool(self._keys.proof, owner, token)
        now = self._clock()
        await self._ask(accounts.open_session, token, owner, proof, now + LASTS_S, now)
        self._cache(token, LoginSession(owner, now + LASTS_S))
        return token

    async def find(self, token: str) -> LoginSession | None:
        """Return the session of a cookie; None if it has expired or its key has changed."""
        if not TOKEN.fullmatch(token):
            return None
        session = self._known.get(token)
        if session is None:
            restored = await self._restored_once(token)
            # None if it was closed since it was restored.
            session = None if restored is None else self._known.get(token)
        if session is None:
            return None
        if session.over.is_set() or session.until <= self._clock():
            self._forget(token)
            return None
        self._cache(token, session)
        return session

    async def close(self, token: str) -> None:
        """End a session, and the replies that are open in it."""
        if not TOKEN.fullmatch(token):
            return
        self._forget(token)
        await self._ask(accounts.close_session, token, self._clock())
        self._forget(token)  # it may have been restored meanwhile

    def _cache(self, token: str, session: LoginSession) -> None:
        self._known[token] = self._kept[token] = session
        self._kept.move_to_end(token)
        if len(self._kept) > MAX_CACHED:
            self._kept.popitem(last=False)

    def _forget(self, token: str) -> None:
        if self._restoring:
            self._closed.add(token)
        self._kept.pop(token, None)
        session = self._known.pop(token, None)
        if session is not None:
            session.over.set()

    async def _restored_once(self, token: str) -> LoginSession | None:
        """Share one call of `_restored` among concurrent requests: a page sends several, and each proof takes
        at least a tenth of a second. Cancelling one request does not affect the others."""
        task = self._reading.get(token)
        if task is None:
            task = self._reading[token] = asyncio.create_task(self._restored(token))
            task.add_done_callback(lambda _: self._reading.pop(token, None))
        return await asyncio.shield(task)

    async def _restored(self, token: str) -> LoginSession | None:
        """Read a session from the store. None also if it was closed meanwhile."""
        self._restoring += 1
        try:
            found = await self._ask(accounts.session, token, self._clock())
            if found is None:
                return None
            owner, proof, until = found
            expected = await run_in_threadpool(self._keys.proof, owner, token)
            if not hmac.compare_digest(proof, expected) or token in self._closed:
                return None
            session = self._known[token] = LoginSession(owner, until)
            return session
        finally:
            self._restoring -= 1
            if not self._restoring:
                self._closed.clear()


async def login(service: "Service", request: Request, key: str) -> Response:
    """Open a session for a key. Raises ErrorReply."""
    if not service.keys:
        return JSONResponse({"user": request.state.owner})
    owner = service.door.owner(key, request.state.client)
    if owner is None:
        raise ErrorReply(401, "unauthorized", "invalid API key", "key")
    token = await service.sessions.open(owner)
    response = JSONResponse({"user": owner})
    response.set_cookie(
        COOKIE,
        token,
        max_age=LASTS_S,
        httponly=True,
        samesite="strict",
        secure=urlsplit(str(request.url)).scheme == "https",
    )
    return response


async def logout(service: "Service", request: Request) -> Response:
    token = cookie_of(request.headers)
    if token is not None:
        await service.sessions.close(token)
    response = JSONResponse({"user": None if service.keys else request.state.owner})
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response
