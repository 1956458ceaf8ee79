"""Formats stored records for the native API; see docs/api.md."""

import time
from collections.abc import Mapping
from typing import Any

from pochade.jobs.records import FINISHED, Picture


def shown(picture: Picture) -> dict[str, Any]:
    """Format a picture."""
    url = f"/api/v1/pictures/{picture.id}"
    return {
        "id": picture.id,
        "job": picture.job,
        "label": picture.label,
        "index": picture.number,
        "width": picture.width,
        "height": picture.height,
        "seed": picture.seed,
        "model": picture.model,
        "text": picture.text,
        "prompt": picture.prompt,
        "created": timestamp(picture.created),
        "pinned": picture.pinned,
        "bytes": picture.bytes,
        "url": url,
        "thumbnail": f"{url}/thumbnail",
    }


def timestamp(seconds: float) -> str:
    """Format a time: "2026-11-24T16:51:23.123Z"."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"


def shown_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """Format an event of a live job; the last event of a finished job contains its pictures."""
    if event["type"] != FINISHED:
        return dict(event)
    return {**event, "pictures": [shown(each) for each in event["pictures"]]}
