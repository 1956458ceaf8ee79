"""Embeds pictures in HTML as data URLs, for notebooks."""

import base64
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from pochade.images.files import encoded

if TYPE_CHECKING:
    from PIL import Image

QUALITY = 90
WIDEST_PX = 512
"""The width of a single picture. Small pictures are shown at twice their size."""

CELL_PX = 160
"""The width of a picture among several."""


def data_url(image: "Image.Image", text: str = "", mark: str | None = None) -> str:
    """Return a data URL with the picture as WebP, including its text and its mark."""
    content = encoded(image, "WEBP", text, mark=mark, quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")


def figures(
    images: "Sequence[Image.Image]",
    captions: Sequence[str],
    texts: Sequence[str] = (),
    mark: str | None = None,
) -> str:
    """Return HTML with pictures side by side and a caption below each. texts: parameters texts, if any."""
    texts = texts or [""] * len(images)
    alone = len(images) == 1
    parts = []
    for image, caption, text in zip(images, captions, texts, strict=True):
        longer = max(image.size)
        side = min(WIDEST_PX, 2 * longer) if alone else CELL_PX
        width = round(side * image.width / longer)
        parts.append(
            f'<figure style="margin:0"><img src="{data_url(image, text, mark)}" width="{width}"'
            f' alt="{escape(_first_line(text) or caption, quote=True)}" style="border-radius:6px">'
            f'<figcaption style="font:12px sans-serif;opacity:.7;max-width:{width}px">{escape(caption)}'
            "</figcaption></figure>"
        )
    return f'<div style="display:flex;flex-wrap:wrap;gap:10px">{"".join(parts)}</div>'


def placeholder(width: int, height: int) -> "Image.Image":
    """Return HTML for a picture that has not been started."""
    from PIL import Image

    return Image.new("RGB", (width, height), (128, 128, 128))


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0]
