"""Decodes picture files: checks them first, applies their orientation, converts them to 8-bit sRGB."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from pochade.errors import InvalidRequest

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
"""The supported formats, without those that call other programs, such as PostScript."""

MAX_PIXELS = 80_000_000
MAX_BYTES = 256 * 2**20

ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the transposition that corrects it."""
SIDEWAYS = (5, 6, 7, 8)
"""Orientations that swap width and height."""


class UnreadablePicture(InvalidRequest):
    """A picture that cannot be used.

    reason: the kind of error, with fixed wording so that errors can be counted.
    detail: the details of this case.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def open_picture(path: Path | str) -> Image.Image:
    """Read a picture file as `read_picture` does. Raises InvalidRequest, naming the file."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InvalidRequest(f"'{path}' has {size:,} bytes; at most {MAX_BYTES:,} are allowed")
        return read_picture(path.read_bytes())
    except OSError as error:
        raise InvalidRequest(f"the picture '{path}' cannot be read: {error.strerror or error}") from error
    except UnreadablePicture as unreadable:
        raise InvalidRequest(f"'{path}' is {unreadable}") from unreadable


def read_picture(content: bytes) -> Image.Image:
    """Decode a picture file's content as an upright 8-bit sRGB image, RGB, or RGBA if it has transparency.

    CMYK, palettes, 16 bits and colour profiles are converted; of an animation the first frame is used.
    Raises UnreadablePicture; a picture that is too large according to its header is not decoded.
    """
    with open_undecoded(content) as image:
        profile = non_srgb_profile(image)
        image.load()
        turn = turn_of(image)
        picture = in_srgb(eight_bits(image), profile)
        return picture if turn is None else picture.transpose(turn)


def read_mask(content: bytes) -> Image.Image:
    """Decode a mask as `read_picture` does, but allow one that is completely transparent."""
    with open_undecoded(content) as image:
        image.load()
        turn = turn_of(image)
        mask = image.convert("RGBA") if image.has_transparency_data else image
        if mask.mode != "RGBA" or mask.getchannel("A").getextrema()[1]:
            return read_picture(content)
        return mask if turn is None else mask.transpose(turn)


def size_in_header(content: bytes) -> tuple[int, int]:
    """Return the width and height of `read_picture`'s result, px, from the header. Raises UnreadablePicture.

    A PNG may store its orientation after its pixels, where it is only found when the picture is decoded.
    """
    with open_undecoded(content) as image:
        # Pillow's own method decodes a PNG completely. For a TIFF, Pillow reports the size after applying the
        # orientation.
        exif = Image.Image.getexif(image) if image.format == "PNG" else image.getexif()
        turned = image.format != "TIFF" and exif.get(ORIENTATION, 1) in SIDEWAYS
        return (image.height, image.width) if turned else image.size


def on_white(image: Image.Image) -> Image.Image:
    """Composite a picture on white as RGB. It is decoded, so its file may be closed."""
    if image.mode == "RGB":
        image.load()
        return image
    rgba = image.convert("RGBA")
    sheet = Image.new("RGBA", rgba.size, "white")
    sheet.alpha_composite(rgba)
    return sheet.convert("RGB")


@contextmanager
def open_undecoded(content: bytes) -> Iterator[Image.Image]:
    """Open a file's content without decoding it; errors inside the block become UnreadablePicture."""
    if not content:
        raise UnreadablePicture("an empty file", "0 bytes")
    try:
        with Image.open(io.BytesIO(content), formats=_known_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(f"{image.width} x {image.height} px")
            yield image
    except UnidentifiedImageError as unknown:
        raise UnreadablePicture(
            "not a picture in a supported format", f"its first bytes are {content[:8]!r}"
        ) from unknown
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as bomb:
        raise _too_large(str(bomb).removesuffix(" could be decompression bomb DOS attack.")) from bomb
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError) as broken:
        if isinstance(broken, InvalidRequest):
            raise
        raise UnreadablePicture("a damaged picture", str(broken)) from broken


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that corrects a loaded picture. Some formats rotate themselves when
    loading."""
    return TURNS.get(image.getexif().get(ORIENTATION, 1))


def eight_bits(image: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB or RGBA; CMYK is kept until its colour profile is applied."""
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise UnreadablePicture("a floating-point picture", "its range of values is unknown")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        lowest, highest = rgba.getchannel("A").getextrema()
        if not highest:
            raise UnreadablePicture("an empty picture", "it is completely transparent")
        return rgba if lowest != 255 else rgba.convert("RGB")
    return image if image.mode in ("RGB", "CMYK") else image.convert("RGB")


def non_srgb_profile(image: Image.Image) -> bytes | None:
    """Return the embedded colour profile, unless it is sRGB or damaged."""
    profile: bytes | None = image.info.get("icc_profile")
    if not profile:
        return None
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except (OSError, ImageCms.PyCMSError):
        return None
    return None if "srgb" in name.lower() else profile


def in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert to sRGB with a valid profile; CMYK without one is converted naively."""
    target = "RGBA" if image.mode == "RGBA" else "RGB"
    if profile:
        try:
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            srgb = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, own, srgb, outputMode=target)
            if converted is not None:
                return converted
        except (OSError, ImageCms.PyCMSError):
            pass  # a profile for another kind of picture
    return image.convert(target)


def _known_formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _too_large(found: str) -> UnreadablePicture:
    return UnreadablePicture("too many pixels", f"{found}; the limit is {MAX_PIXELS:,} pixels")
