"""Writes animations as WebP or GIF, and folders of frames."""

import io
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.atomic import unwritable
from pochade.errors import InvalidRequest
from pochade.images.files import QUALITY, Sign, check_folder, exif, write_without_overwriting
from pochade.images.marks import GENERATED, xmp_packet
from pochade.images.metadata import encodable

if TYPE_CHECKING:
    from PIL import Image

FORMATS = {".webp": "WEBP", ".gif": "GIF"}


def check_animation(path: Path) -> None:
    """Check the name of an animation before anything is drawn. Creates nothing.

    Raises InvalidRequest for an unknown suffix, OutputError if the folder cannot be created or written to.
    """
    if path.suffix.lower() not in FORMATS:
        raise InvalidRequest(f"'{path}' ends in '{path.suffix}'; an animation's name ends in .webp or .gif")
    check_folder(path)


def save_animation(
    frames: "Sequence[Image.Image]",
    path: Path,
    frame_s: float,
    text: str = "",
    *,
    mark: str | None = GENERATED,
    sign: Sign | None = None,
) -> Path:
    """Write a looping animation, with `frame_s` seconds per frame, under the first free name.

    text, mark: as in `files.encoded`, for WebP only; a GIF has 256 colours and supports neither. sign: signs
    either format. Returns the used name. Raises InvalidRequest and OutputError as `check_animation` does.
    """
    check_animation(path)
    kind = FORMATS[path.suffix.lower()]
    first, *rest = (frame.convert("RGB") for frame in frames)
    options: dict[str, Any] = {}
    if kind == "WEBP":
        packet = b"" if mark is None else xmp_packet(mark).encode()
        options = {"quality": QUALITY, "exif": exif(encodable(text)) if text else b"", "xmp": packet}
    file = io.BytesIO()
    first.save(
        file, kind, save_all=True, append_images=rest, duration=round(1000 * frame_s), loop=0, **options
    )
    content = file.getvalue()
    return write_without_overwriting(content if sign is None else sign(content, kind, mark), path)


def new_folder(path: Path) -> Path:
    """Create a folder with the first free name of fox, fox-2, fox-3 ... Raises OutputError if that fails."""
    for candidate in chain([path], (path.with_name(f"{path.name}-{i}") for i in count(2))):
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            if candidate.parent.is_dir():
                continue
            raise unwritable(candidate, NotADirectoryError(f"'{candidate.parent}' is a file")) from None
        except OSError as error:
            raise unwritable(candidate, error) from error
        return candidate
    raise AssertionError("there is always another number")
