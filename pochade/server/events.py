"""Server-sent events, for dialects that tell what goes on."""

import json
from collections.abc import Callable
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class EventStream(StreamingResponse):
    """Server-sent events, which no proxy may keep back."""

    media_type = "text/event-stream"

    def __init__(self, content: Any, done: Callable[[], None] = lambda: None, **options: Any) -> None:
        """done: called at the end, also if the client goes before the first event is asked of `content`: a
        generator that never began has no end of its own."""
        super().__init__(content, headers={"cache-control": "no-store", "x-accel-buffering": "no"}, **options)
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._done()


def written_event(kind: str, data: Any) -> str:
    """One event as it is sent. data: JSON."""
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
