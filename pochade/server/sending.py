"""Pictures as they are sent: the stored file, or the same in another format."""

import io

from pochade.jobs.places import Places
from pochade.jobs.records import Picture
from pochade.server.guard import Trouble


def file_of(places: Places, picture: Picture) -> bytes:
    """The content of its PNG file. Raises Trouble if it was removed meanwhile."""
    try:
        return places.output(picture.path).read_bytes()
    except OSError as gone:
        raise Trouble(404, "not_found", "the picture was removed") from gone


def converted(content: bytes, kind: str, text: str, *, quality: int, largest: int | None = None) -> bytes:
    """A PNG file in another format, with its parameters text and its mark of where it comes from.

    kind: as Pillow names it. quality: 0 to 100. largest: side, px; a larger picture is made smaller.
    """
    from PIL import Image

    from pochade.images.files import encoded
    from pochade.images.reading import mark_of

    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        if largest is not None:
            image.thumbnail((largest, largest))
        return encoded(image, kind, text, mark=mark_of(content), quality=quality)
