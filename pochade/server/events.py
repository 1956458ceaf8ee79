"""Server-sent events."""

import json
from collections.abc import Callable
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class EventStream(StreamingResponse):
    """A response with server-sent events, which proxies must not buffer."""

    media_type = "text/event-stream"

    def __init__(self, content: Any, done: Callable[[], None] = lambda: None, **options: Any) -> None:
        """done: called at the end, even if the client disconnects before `content` starts: a generator that
        was never started runs no `finally`."""
        super().__init__(content, headers={"cache-control": "no-store", "x-accel-buffering": "no"}, **options)
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._done()


def written_event(kind: str, data: Any) -> str:
    """Format one event. data: JSON."""
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
