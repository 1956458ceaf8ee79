"""Pictures of any origin: checked, turned upright, brought to 8-bit sRGB, reduced, encoded."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from pochade.training.corpus.samples import Unusable

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
"""What may be opened: nothing that calls other programs, as PostScript does."""

KEPT = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
"""Formats whose files may stand in a shard as they came."""

MAX_PIXELS = 80_000_000
MAX_BYTES = 256 * 2**20
JPEG_QUALITY = 95
WEBP_MAX_SIDE = 16383
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


@dataclass(frozen=True)
class Encoded:
    """A picture file: its bytes, the end of its name, its size in px."""

    content: bytes
    suffix: str
    width: int
    height: int


def encoded(content: bytes, size: int) -> Encoded:
    """A picture whose shorter side is at most `size` px, as RGB or, where it has transparency, RGBA.

    CMYK, palettes, 16 bits and colour profiles are converted, the first frame of an animation is taken and
    EXIF's orientation followed. What needs none of it keeps its very bytes; JPEG stays JPEG, and all else
    becomes lossless. Raises Unusable.
    """
    if not content:
        raise Unusable("an empty file", "0 bytes")
    try:
        with Image.open(io.BytesIO(content), formats=_known_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(f"{image.width} x {image.height} px")
            return _encoded(image, content, size)
    except UnidentifiedImageError as unknown:
        raise Unusable("no picture that can be read", f"its first bytes are {content[:8]!r}") from unknown
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as bomb:
        raise _too_large(str(bomb).removesuffix(" could be decompression bomb DOS attack.")) from bomb
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError) as broken:
        if isinstance(broken, Unusable):
            raise
        raise Unusable("a damaged picture", str(broken)) from broken


def lossless(picture: NDArray[np.uint8]) -> bytes:
    """A WebP file of (H, W, 3|4) pixels from which the same ones come back; PNG for very long pictures."""
    stream = io.BytesIO()
    if max(picture.shape[:2]) > WEBP_MAX_SIDE:
        Image.fromarray(picture).save(stream, "PNG")
    else:
        Image.fromarray(picture).save(stream, "WEBP", lossless=True, quality=50, method=0, exact=True)
    return stream.getvalue()


def _encoded(image: Image.Image, content: bytes, size: int) -> Encoded:
    kind = "JPEG" if image.format == "MPO" else str(image.format)  # a JPEG with more views behind it
    width, height = _reduced(image.size, size)
    plain = image.mode in ("RGB", "RGBA") and not getattr(image, "is_animated", False)
    profile = _foreign_profile(image)
    if kind == "JPEG":
        image.draft(image.mode, (2 * width, 2 * height))  # decodes fewer pixels where that is enough
    image.load()
    turn = TURNS.get(image.getexif().get(ORIENTATION, 1))  # after loading: some formats turn by themselves
    if kind in KEPT and plain and turn is None and profile is None and image.size == (width, height):
        picture = _eight_bits(image)
        if picture.mode == image.mode:
            return Encoded(content, KEPT[kind], width, height)
    small = _in_srgb(_resized(_eight_bits(image), (width, height)), profile)
    if turn is not None:
        small = small.transpose(turn)
    if kind == "JPEG":
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        return Encoded(stream.getvalue(), "jpg", *small.size)
    suffix = "png" if max(small.size) > WEBP_MAX_SIDE else "webp"
    return Encoded(lossless(np.asarray(small)), suffix, *small.size)


def _known_formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _too_large(found: str) -> Unusable:
    return Unusable("too many pixels", f"{found}; the limit is {MAX_PIXELS:,} pixels")


def _reduced(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    scale = min(1.0, shorter / min(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _eight_bits(image: Image.Image) -> Image.Image:
    """As RGB, RGBA or CMYK: the latter waits for its colour profile."""
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise Unusable("a picture of fractions", "nobody knows which of its numbers is white")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if not np.asarray(rgba.getchannel("A")).any():
            raise Unusable("a picture that shows nothing", "all of it is transparent")
        return rgba if _has_holes(rgba) else rgba.convert("RGB")
    return image if image.mode in ("RGB", "CMYK") else image.convert("RGB")


def _has_holes(rgba: Image.Image) -> bool:
    return int(np.asarray(rgba.getchannel("A")).min()) < 255


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Lanczos; with premultiplied alpha, so that no colour bleeds out of transparent pixels."""
    if image.size == size:
        return image
    source = image.convert("RGBa") if image.mode == "RGBA" else image
    small = source.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return small.convert("RGBA") if image.mode == "RGBA" else small


def _foreign_profile(image: Image.Image) -> bytes | None:
    """The embedded colour profile, unless it is that of sRGB itself, or broken."""
    profile: bytes | None = image.info.get("icc_profile")
    if not profile:
        return None
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except (OSError, ImageCms.PyCMSError):
        return None
    return None if "srgb" in name.lower() else profile


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
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
