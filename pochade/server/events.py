"""Server-sent events, for dialects that tell what goes on."""

import json
from typing import Any

from fastapi.responses import StreamingResponse


class EventStream(StreamingResponse):
    """Server-sent events, which no proxy may keep back."""

    media_type = "text/event-stream"

    def __init__(self, content: Any, **options: Any) -> None:
        super().__init__(content, headers={"cache-control": "no-store", "x-accel-buffering": "no"}, **options)


def written_event(kind: str, data: Any) -> str:
    """One event as it is sent. data: JSON."""
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
