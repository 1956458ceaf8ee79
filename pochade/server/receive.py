"""Receiving request bodies: within a size limit, with a timeout, and only while the session lasts."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

SMALL_BYTES = 4096
"""Limit of bodies of routes without another limit: a key, an id, a switch."""

MIDDLE_BYTES = 2**20
"""Limit of bodies of routes that accept texts."""

BODY_TIMEOUT_S = 60.0
"""Timeout between two parts of a body, s."""

DRAINED_BYTES, DRAINED_S = 16 * 2**20, 5.0
"""Bytes and seconds for which a too large body is still read, so that the client reads the error reply."""


@dataclass(eq=False)
class LoginSession:
    """A login session. until: seconds since 1970. over: set on logout."""

    owner: str
    until: float
    over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class BodyLimits:
    """Limits of bodies, bytes. most: of any body. routes: path -> limit, None for `most`."""

    most: int
    routes: Mapping[str, int | None] = field(default_factory=dict)

    def of(self, path: str) -> int:
        own = self.routes.get(path.rstrip("/"), SMALL_BYTES)
        return self.most if own is None else min(own, self.most)


def bounded(receive: Receive, limit: int) -> Receive:
    """Wrap `receive` with a size limit and a timeout."""
    count, done = 0, False

    async def receiving() -> Message:
        nonlocal count, done
        if done:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), BODY_TIMEOUT_S)
        except TimeoutError as late:
            raise HTTPException(408, "timed out while waiting for the request's body") from late
        count += len(message.get("body", b""))
        done = message["type"] != "http.request" or not message.get("more_body", False)
        if count > limit:
            raise HTTPException(413, f"the request has more than {limit:,} bytes")
        return message

    return receiving


def while_open(receive: Receive, session: LoginSession, clock: Callable[[], float]) -> Receive:
    """Wrap `receive` so that it reports a disconnected client once the session is over; this ends long
    replies.

    clock: seconds since 1970.
    """

    async def receiving() -> Message:
        message = asyncio.ensure_future(receive())
        over = asyncio.ensure_future(session.over.wait())
        try:
            left = max(0.0, session.until - clock())
            await asyncio.wait({message, over}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if message.done():
                return message.result()
            session.over.set()
            return {"type": "http.disconnect"}
        finally:
            for task in (message, over):
                task.cancel()
            await asyncio.gather(message, over, return_exceptions=True)

    return receiving


async def drain(receive: Receive, limit: int) -> None:
    """Read and discard up to `limit` bytes of a body, if they arrive soon."""
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
