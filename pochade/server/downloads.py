"""Pictures in responses: the stored file, or a conversion to another format."""

import io

from pochade.jobs.records import Picture
from pochade.jobs.storage import Storage
from pochade.server.middleware import ErrorReply


def file_of(storage: Storage, picture: Picture) -> bytes:
    """Return the content of a picture's PNG file. Raises ErrorReply if it was removed."""
    try:
        return storage.output(picture.path).read_bytes()
    except OSError as gone:
        raise ErrorReply(404, "not_found", "the picture was removed") from gone


def converted(content: bytes, kind: str, text: str, *, quality: int, largest: int | None = None) -> bytes:
    """Convert a PNG file, keeping its parameters text and its mark.

    kind: Pillow's name of the format. quality: 0 to 100. largest: longer side, px; larger pictures are scaled
    down.
    """
    from PIL import Image

    from pochade.images.embedded_text import mark_of
    from pochade.images.files import encoded

    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        if largest is not None:
            image.thumbnail((largest, largest))
        return encoded(image, kind, text, mark=mark_of(content), quality=quality)
