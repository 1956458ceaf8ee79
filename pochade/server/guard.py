"""The one door: every request of every dialect comes through here, and every reply goes out through it.

In this order: the name that the server was called by (against DNS rebinding), where a browser's request comes
from (against other sites' pages), who asks, how often, how much they send. A reply gets its security headers
and an id, whatever made it. What fails here is said in the shape of the dialect that was spoken.
"""

import asyncio
import ipaddress
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pochade.server.keys import LOCAL, Keys, key_of_header
from pochade.server.rates import Buckets

COOKIE = "pochade_session"
SAFE = ("GET", "HEAD", "OPTIONS")
LOOPBACK = ("localhost", "127.0.0.1", "::1")

BODY_TIMEOUT_S = 60.0
"""For so long nothing may come of a body that was announced."""

DRAINED_BYTES, DRAINED_S = 16 * 2**20, 5.0
"""Of a body that is too large: a client that is still sending when the connection closes never reads why."""

BUG = "something went wrong inside; the server's log has more"

CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


@dataclass(eq=False)
class Trouble(Exception):
    """What is answered in place of a reply, in the shape of the dialect. code: for programs."""

    status: int
    code: str
    message: str
    field: str | None = None
    headers: Mapping[str, str] | None = None


Answer = Callable[[Trouble, str], Response]
"""From trouble, and the id of the request, to a reply in a dialect."""

OfKey = Callable[[str, str], str | None]
"""From a key and the address that it comes from to a user. May raise Trouble."""

OpenSession = Callable[[str], Awaitable[str | None]]
"""From what a cookie holds to a user."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """names: by which the server may be called; "*" is any. numbers: whether it may be called by any IP
    address too. guarded: beginnings of paths that need a key; open_paths: those of them that do not."""

    keys: Keys
    names: tuple[str, ...]
    numbers: bool
    body_bytes: int
    guarded: tuple[str, ...] = ("/api/", "/sdapi/", "/controlnet/", "/v1/", "/mcp")
    open_paths: tuple[str, ...] = ("/api/v1/session", "/api/v1/login", "/api/v1/logout")


class Guard:
    """ASGI middleware. answers: (prefix of the path, Answer), the first that fits counts.

    The user's name is put into scope["state"]["owner"].
    """

    def __init__(
        self,
        app: ASGIApp,
        rules: Rules,
        answers: Sequence[tuple[str, Answer]],
        session: OpenSession,
        requests: Buckets,
        of_key: OfKey,
        random: Callable[[int], str],
    ) -> None:
        self._app, self._rules, self._answers, self._session = app, rules, answers, session
        self._requests, self._of_key, self._random = requests, of_key, random

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        request_id = self._random(8)
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers["x-request-id"] = request_id
                if scope["path"].startswith(self._rules.guarded):
                    headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            await self._check(scope)
            await self._app(scope, _bounded(receive, self._rules.body_bytes), sending)
        except Trouble as trouble:
            if begun:
                raise
            if trouble.status == 413:
                await _drain(receive, max(DRAINED_BYTES, self._rules.body_bytes))
            await self._answer(trouble, request_id, scope["path"])(scope, receive, sending)
        except ConnectionResetError:
            pass  # who asked is gone
        except Exception:
            traceback.print_exc(file=sys.stderr)
            if not begun:
                bug = Trouble(500, "internal", BUG)
                await self._answer(bug, request_id, scope["path"])(scope, receive, sending)

    def _answer(self, trouble: Trouble, request_id: str, path: str) -> Response:
        answer = next(answer for prefix, answer in self._answers if path.startswith(prefix))
        return answer(trouble, request_id)

    async def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not called_rightly(host, self._rules):
            raise Trouble(403, "forbidden", "this server does not answer to that name; see --allow-host")
        if scope["method"] not in SAFE and not from_here(headers, host):
            raise Trouble(403, "forbidden", "another site's page may not do this")
        client = (scope.get("client") or ("unknown",))[0]
        owner = await self._owner(headers, client)
        scope.setdefault("state", {})["owner"] = owner
        path = scope["path"]
        closed = path.startswith(self._rules.guarded) and path not in self._rules.open_paths
        if closed and owner is None:
            basic = {"WWW-Authenticate": 'Basic realm="pochade", charset="UTF-8"'}
            raise Trouble(
                401,
                "unauthorized",
                "a key is needed, and this is none",
                headers=basic if path.startswith(("/sdapi/", "/controlnet/")) else None,
            )
        wait = self._requests.wait_s(owner or client)
        if wait:
            raise too_many(wait, "too many requests")
        length = headers.get("content-length")
        if length is not None and length.isdecimal() and int(length) > self._rules.body_bytes:
            raise too_large(self._rules.body_bytes)

    async def _owner(self, headers: Headers, client: str) -> str | None:
        if not self._rules.keys:
            return LOCAL
        shown = headers.get("authorization")
        if shown is not None:
            return self._of_key(key_of_header(shown) or "", client)
        token = cookie_of(headers)
        return None if token is None else await self._session(token)


def cookie_of(headers: Headers) -> str | None:
    """What the cookie of a login holds."""
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return None
    return cookies[COOKIE].value if COOKIE in cookies else None


def called_rightly(host: str, rules: Rules) -> bool:
    """Whether the header Host names this server: a page whose own name leads here must not get an answer."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if "*" in rules.names or name.lower() in rules.names:
        return True
    if not rules.numbers:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def from_here(headers: Headers, host: str) -> bool:
    """Whether a browser's request comes from a page of this server. What is no browser says nothing of it."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def too_many(wait_s: float, what: str) -> Trouble:
    return Trouble(429, "too_many", f"{what}; try again later", headers={"Retry-After": str(int(wait_s) + 1)})


def too_large(limit: int) -> Trouble:
    return Trouble(
        413, "too_large", f"the request has more than {limit:,} bytes", headers={"Connection": "close"}
    )


async def _drain(receive: Receive, limit: int) -> None:
    """Read and forget so much of a body, if it comes soon."""
    count = 0
    try:
        async with asyncio.timeout(DRAINED_S):
            while count < limit:
                message = await receive()
                count += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def _bounded(receive: Receive, limit: int) -> Receive:
    """`receive` that stops at so many bytes, and that does not wait for ever for the next of them."""
    count, done = 0, False

    async def bounded() -> Message:
        nonlocal count, done
        if done:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), BODY_TIMEOUT_S)
        except TimeoutError as late:
            raise HTTPException(408, "nothing came of the request for too long") from late
        count += len(message.get("body", b""))
        done = message["type"] != "http.request" or not message.get("more_body", False)
        if count > limit:
            raise HTTPException(413, f"the request has more than {limit:,} bytes")
        return message

    return bounded
