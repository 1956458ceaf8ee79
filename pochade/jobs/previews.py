"""Previews: when the next one is due, and how they are encoded."""

import base64
import io
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

PREVIEW_S = 0.33
PREVIEW_SHARE = 0.15
"""Largest share of the time that previews may take."""
PREVIEW_QUALITY = 80


class PreviewSchedule:
    """Schedules previews: limited in rate, and less often if they take long."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._next, self._began = clock, clock() + PREVIEW_S, 0.0

    def due(self) -> bool:
        return self._clock() >= self._next

    def taking(self) -> "PreviewSchedule":
        return self

    def __enter__(self) -> None:
        self._began = self._clock()

    def __exit__(self, *_: object) -> None:
        now = self._clock()
        self._next = now + max(PREVIEW_S, (now - self._began) / PREVIEW_SHARE)


def data_url(image: "Image.Image", kind: str) -> str:
    """Encode an image as a data URL. kind: Pillow's name of the format."""
    file = io.BytesIO()
    image.convert("RGB").save(file, kind, **({"quality": PREVIEW_QUALITY} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
