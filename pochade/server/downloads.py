"""Pictures as they are sent: the stored file, or the same in another format."""

import io

from pochade.jobs.records import Picture
from pochade.jobs.storage import Storage
from pochade.server.middleware import ErrorReply


def file_of(storage: Storage, picture: Picture) -> bytes:
    """The content of its PNG file. Raises Trouble if it was removed meanwhile."""
    try:
        return storage.output(picture.path).read_bytes()
    except OSError as gone:
        raise ErrorReply(404, "not_found", "the picture was removed") from gone


def converted(content: bytes, kind: str, text: str, *, quality: int, largest: int | None = None) -> bytes:
    """A PNG file in another format, with its parameters text and its mark of where it comes from.

    kind: as Pillow names it. quality: 0 to 100. largest: side, px; a larger picture is made smaller.
    """
    from PIL import Image

    from pochade.images.embedded_text import mark_of
    from pochade.images.files import encoded

    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        if largest is not None:
            image.thumbnail((largest, largest))
        return encoded(image, kind, text, mark=mark_of(content), quality=quality)
