"""Thumbnails, made on request and cached in memory."""

import asyncio
import io
from collections import OrderedDict
from pathlib import Path

from PIL import Image
from starlette.concurrency import run_in_threadpool

from pochade.images.decode import on_white
from pochade.server.middleware import ErrorReply

SIDE = 320
QUALITY = 85
KEPT = 512
AT_ONCE = 2


class Thumbnails:
    """JPEGs of at most SIDE px on the longer side."""

    def __init__(self) -> None:
        self._made: OrderedDict[Path, bytes] = OrderedDict()
        self._making = asyncio.Semaphore(AT_ONCE)

    async def of(self, path: Path) -> bytes:
        """Return the thumbnail of a picture file, which never changes. Raises ErrorReply if it is missing."""
        if path in self._made:
            self._made.move_to_end(path)
            return self._made[path]
        async with self._making:
            try:
                content = await run_in_threadpool(_small, path)
            except OSError as error:
                raise ErrorReply(404, "not_found", "there is no such picture of yours") from error
        self._made[path] = content
        if len(self._made) > KEPT:
            self._made.popitem(last=False)
        return content


def _small(path: Path) -> bytes:
    with Image.open(path, formats=["PNG"]) as image:
        small = on_white(image)
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
