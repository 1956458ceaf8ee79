"""The middleware that every request and reply of every dialect passes.

It checks, in this order: the host name (against DNS rebinding), the origin of a browser's request (against
cross-site requests), the user, the rate, and the size of the body. Every reply gets security headers and an
id. Errors are formatted for the dialect.
"""

import sys
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pochade.server.auth import LOCAL, Keys, key_of_header
from pochade.server.hostnames import is_allowed_host, is_same_origin
from pochade.server.proxies import UNKNOWN, rate_limit_name
from pochade.server.rate_limit import TokenBuckets
from pochade.server.receive import DRAINED_BYTES, BodyLimits, LoginSession, bounded, drain, while_open

COOKIE = "pochade_session"
SAFE = ("GET", "HEAD", "OPTIONS")
MAX_CONCURRENT = 300
"""Concurrent requests of one user, or of one address without a user, streams and waiting clients included.
The server accepts `run.CONNECTIONS` in all."""

BUG = "internal error; the server's log has the details"

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
class ErrorReply(Exception):
    """An error reply, formatted by the dialect. code: for programs."""

    status: int
    code: str
    message: str
    field: str | None = None
    headers: Mapping[str, str] | None = None


Answer = Callable[[ErrorReply, str], Response]
"""Formats an error, given the id of the request, for a dialect."""

OfKey = Callable[[str, str], str | None]
"""Returns the user of a key sent from an address. May raise ErrorReply."""

OpenSession = Callable[[str], Awaitable[LoginSession | None]]
"""Returns the session of a cookie."""


@dataclass(frozen=True)
class Client:
    """The sender of a request. owner: None without a key. name: for rate limits."""

    owner: str | None
    session: LoginSession | None
    name: str


@dataclass(frozen=True, kw_only=True)
class AccessRules:
    """Access rules. names: allowed host names; "*" is any. numbers: whether any IP address is allowed too.
    allowed: names whose pages may send requests whatever their port, see `is_same_origin`. guarded: prefixes
    of paths that need a key; open_paths: exceptions."""

    keys: Keys
    names: tuple[str, ...]
    numbers: bool
    bodies: BodyLimits
    allowed: tuple[str, ...] = ()
    guarded: tuple[str, ...] = ("/api/", "/sdapi/", "/controlnet/", "/v1/", "/mcp")
    open_paths: tuple[str, ...] = ("/api/v1/session", "/api/v1/login", "/api/v1/logout")


class GuardMiddleware:
    """ASGI middleware. answers: (path prefix, formatter of errors); the first match is used.

    The user's name is put into scope["state"]["owner"].
    """

    def __init__(
        self,
        app: ASGIApp,
        rules: AccessRules,
        answers: Sequence[tuple[str, Answer]],
        session: OpenSession,
        requests: TokenBuckets,
        of_key: OfKey,
        random: Callable[[int], str],
        clock: Callable[[], float],
    ) -> None:
        self._app, self._rules, self._answers, self._session = app, rules, answers, session
        self._requests, self._of_key, self._random, self._clock = requests, of_key, random, clock
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # web sockets are not supported
            await send({"type": "websocket.close", "code": 1008})
            return
        request_id = self._random(8)
        begun = done = False

        async def sending(message: Message) -> None:
            nonlocal begun, done
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers["x-request-id"] = request_id
                if scope["path"].startswith(self._rules.guarded):
                    headers.setdefault("cache-control", "no-store")
            elif message["type"] == "http.response.body":
                done = not message.get("more_body", False)
            await send(message)

        limit = self._rules.bodies.of(scope["path"])
        try:
            who = await self._check(scope, limit)
            with self._counted(who.name):
                receiving = bounded(receive, limit)
                if who.session is not None:
                    receiving = while_open(receiving, who.session, self._clock)
                await self._app(scope, receiving, sending)
            if begun and not done and who.session is not None and who.session.over.is_set():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ErrorReply as trouble:
            if begun:
                raise
            if trouble.status == 413:
                await drain(receive, max(DRAINED_BYTES, limit))
            await self._answer(trouble, request_id, scope["path"])(scope, receive, sending)
        except ConnectionResetError:
            pass  # the client has disconnected
        except Exception:
            traceback.print_exc(file=sys.stderr)
            if not begun:
                bug = ErrorReply(500, "internal", BUG)
                await self._answer(bug, request_id, scope["path"])(scope, receive, sending)

    def _answer(self, trouble: ErrorReply, request_id: str, path: str) -> Response:
        answer = next(answer for prefix, answer in self._answers if path.startswith(prefix))
        return answer(trouble, request_id)

    @contextmanager
    def _counted(self, name: str) -> Iterator[None]:
        """Count a request in progress. Raises ErrorReply if there are too many."""
        if self._open[name] >= MAX_CONCURRENT:
            raise too_many(1, f"{MAX_CONCURRENT} of your requests are in progress; wait for one to finish")
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]

    async def _check(self, scope: Scope, limit: int) -> Client:
        headers = Headers(scope=scope)
        host, rules = headers.get("host", ""), self._rules
        if not is_allowed_host(host, rules.names, numbers=rules.numbers):
            raise ErrorReply(403, "forbidden", "this host name is not allowed; see --allow-host")
        if scope["method"] not in SAFE and not is_same_origin(headers, host, rules.allowed):
            raise ErrorReply(
                403,
                "forbidden",
                "cross-site request refused; behind a proxy, give the host name of the page as --allow-host",
            )
        client = rate_limit_name((scope.get("client") or (UNKNOWN,))[0])
        who = await self._who(headers, client)
        state = scope.setdefault("state", {})
        state["owner"], state["client"] = who.owner, client
        wait = self._requests.wait_s(who.name)
        if wait:
            raise too_many(wait, "too many requests")
        path = scope["path"]
        closed = path.startswith(rules.guarded) and path not in rules.open_paths
        if closed and who.owner is None:
            basic = {"WWW-Authenticate": 'Basic realm="pochade", charset="UTF-8"'}
            raise ErrorReply(
                401,
                "unauthorized",
                "invalid API key",
                headers=basic if path.startswith(("/sdapi/", "/controlnet/")) else None,
            )
        length = headers.get("content-length")
        if length is not None and length.isdecimal() and int(length) > limit:
            raise too_large(limit)
        return who

    async def _who(self, headers: Headers, client: str) -> Client:
        if not self._rules.keys:
            return Client(LOCAL, None, LOCAL)
        shown, token = headers.get("authorization"), cookie_of(headers)
        owner = session = None
        if shown is not None:
            owner = self._of_key(key_of_header(shown) or "", client)
        elif token is not None:
            session = await self._session(token)
            owner = None if session is None else session.owner
        return Client(owner, session, client if owner is None else f"user {owner}")


def cookie_of(headers: Headers) -> str | None:
    """Return the value of the session cookie."""
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return None
    return cookies[COOKIE].value if COOKIE in cookies else None


def too_many(wait_s: float, what: str) -> ErrorReply:
    return ErrorReply(
        429, "too_many", f"{what}; try again later", headers={"Retry-After": str(int(wait_s) + 1)}
    )


def too_large(limit: int) -> ErrorReply:
    return ErrorReply(
        413, "too_large", f"the request has more than {limit:,} bytes", headers={"Connection": "close"}
    )
