"""Pictures of any origin: checked before they are decoded, turned upright, brought to 8-bit sRGB."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from pochade.errors import InvalidRequest

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
"""What may be opened: nothing that calls other programs, as PostScript does."""

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
"""What brings a picture with this EXIF orientation upright."""
SIDEWAYS = (5, 6, 7, 8)
"""Those in which width and height are exchanged."""


class UnreadablePicture(InvalidRequest):
    """A picture that cannot be used.

    reason: the same words for every case of its kind, so that they can be counted.
    detail: what is special about this one.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def open_picture(path: Path | str) -> Image.Image:
    """The picture of a file, as `read_picture` gives it. Raises InvalidRequest, naming the file."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InvalidRequest(f"'{path}' has {size:,} bytes; pictures of at most {MAX_BYTES:,} are read")
        return read_picture(path.read_bytes())
    except OSError as error:
        raise InvalidRequest(f"the picture '{path}' cannot be read: {error.strerror or error}") from error
    except UnreadablePicture as unreadable:
        raise InvalidRequest(f"'{path}' is {unreadable}") from unreadable


def read_picture(content: bytes) -> Image.Image:
    """A picture file's content as an upright 8-bit sRGB picture, RGB or, where it has transparency, RGBA.

    CMYK, palettes, 16 bits and colour profiles are converted; of an animation the first frame is taken.
    Raises UnreadablePicture, before anything is decoded if the header says that it is too large.
    """
    with opened(content) as image:
        profile = foreign_profile(image)
        image.load()
        turn = turn_of(image)
        picture = in_srgb(eight_bits(image), profile)
        return picture if turn is None else picture.transpose(turn)


def read_mask(content: bytes) -> Image.Image:
    """As `read_picture`, and what is transparent everywhere is no fault: a mask may be."""
    with opened(content) as image:
        image.load()
        turn = turn_of(image)
        mask = image.convert("RGBA") if image.has_transparency_data else image
        if mask.mode != "RGBA" or mask.getchannel("A").getextrema()[1]:
            return read_picture(content)
        return mask if turn is None else mask.transpose(turn)


def size_in_header(content: bytes) -> tuple[int, int]:
    """Width and height that `read_picture` will give, px, from the header alone. Raises UnreadablePicture.

    A PNG may say behind its pixels that it is turned, which is found only when it is decoded.
    """
    with opened(content) as image:
        # Of a PNG, its own method decodes all of it. Of a TIFF, Pillow tells the size that it will have once
        # it has turned itself.
        exif = Image.Image.getexif(image) if image.format == "PNG" else image.getexif()
        turned = image.format != "TIFF" and exif.get(ORIENTATION, 1) in SIDEWAYS
        return (image.height, image.width) if turned else image.size


def on_white(image: Image.Image) -> Image.Image:
    """Without transparency: RGB, white where there is nothing. It is decoded, so its file may be closed."""
    if image.mode == "RGB":
        image.load()
        return image
    rgba = image.convert("RGBA")
    sheet = Image.new("RGBA", rgba.size, "white")
    sheet.alpha_composite(rgba)
    return sheet.convert("RGB")


@contextmanager
def opened(content: bytes) -> Iterator[Image.Image]:
    """The picture of a file's content, not decoded yet; whatever goes wrong inside is UnreadablePicture."""
    if not content:
        raise UnreadablePicture("an empty file", "0 bytes")
    try:
        with Image.open(io.BytesIO(content), formats=_known_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(f"{image.width} x {image.height} px")
            yield image
    except UnidentifiedImageError as unknown:
        raise UnreadablePicture(
            "no picture that can be read", f"its first bytes are {content[:8]!r}"
        ) from unknown
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as bomb:
        raise _too_large(str(bomb).removesuffix(" could be decompression bomb DOS attack.")) from bomb
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError) as broken:
        if isinstance(broken, InvalidRequest):
            raise
        raise UnreadablePicture("a damaged picture", str(broken)) from broken


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """What brings a loaded picture upright. Ask after loading: some formats turn by themselves."""
    return TURNS.get(image.getexif().get(ORIENTATION, 1))


def eight_bits(image: Image.Image) -> Image.Image:
    """As RGB, RGBA or CMYK: the latter waits for its colour profile."""
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise UnreadablePicture("a picture of fractions", "nobody knows which of its numbers is white")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        lowest, highest = rgba.getchannel("A").getextrema()
        if not highest:
            raise UnreadablePicture("a picture that shows nothing", "all of it is transparent")
        return rgba if lowest != 255 else rgba.convert("RGB")
    return image if image.mode in ("RGB", "CMYK") else image.convert("RGB")


def foreign_profile(image: Image.Image) -> bytes | None:
    """The embedded colour profile, unless it is that of sRGB itself, or broken."""
    profile: bytes | None = image.info.get("icc_profile")
    if not profile:
        return None
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except (OSError, ImageCms.PyCMSError):
        return None
    return None if "srgb" in name.lower() else profile


def in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Converted from its own colour space, as far as the profile is one; CMYK without one naively."""
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
