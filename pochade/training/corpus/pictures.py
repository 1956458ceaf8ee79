"""Convert pictures to files for a shard: downsampled, and re-encoded only if necessary."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pochade.images.decode import (
    UnreadablePicture,
    eight_bits,
    in_srgb,
    non_srgb_profile,
    open_undecoded,
    turn_of,
)
from pochade.training.corpus.samples import Unusable

KEPT = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
"""Formats whose files are stored in a shard unchanged."""

JPEG_QUALITY = 95
WEBP_MAX_SIDE = 16383


@dataclass(frozen=True)
class Encoded:
    """A picture file: its bytes, its suffix, its size in px."""

    content: bytes
    suffix: str
    width: int
    height: int


def encoded(content: bytes, size: int) -> Encoded:
    """Convert a picture to RGB, or RGBA if it has transparency, with a shorter side of at most `size` px.

    CMYK, palettes, 16 bits and colour profiles are converted, the first frame of an animation is used and
    EXIF's orientation is applied. A file that needs no change is kept; JPEG is re-encoded as JPEG, everything
    else lossless. Raises Unusable.
    """
    try:
        with open_undecoded(content) as image:
            return _encoded(image, content, size)
    except UnreadablePicture as unreadable:
        raise Unusable(unreadable.reason, unreadable.detail) from unreadable


def lossless(picture: NDArray[np.uint8]) -> bytes:
    """Encode (H, W, 3|4) pixels as lossless WebP, or PNG for pictures that are too long for WebP."""
    stream = io.BytesIO()
    if max(picture.shape[:2]) > WEBP_MAX_SIDE:
        Image.fromarray(picture).save(stream, "PNG")
    else:
        Image.fromarray(picture).save(stream, "WEBP", lossless=True, quality=50, method=0, exact=True)
    return stream.getvalue()


def _encoded(image: Image.Image, content: bytes, size: int) -> Encoded:
    kind = "JPEG" if image.format == "MPO" else str(image.format)  # a JPEG followed by more views
    width, height = _reduced(image.size, size)
    plain = image.mode in ("RGB", "RGBA") and not getattr(image, "is_animated", False)
    profile = non_srgb_profile(image)
    if kind == "JPEG":
        image.draft(image.mode, (2 * width, 2 * height))  # decodes at reduced resolution if possible
    image.load()
    turn = turn_of(image)
    if kind in KEPT and plain and turn is None and profile is None and image.size == (width, height):
        picture = eight_bits(image)
        if picture.mode == image.mode:
            return Encoded(content, KEPT[kind], width, height)
    small = in_srgb(_resized(eight_bits(image), (width, height)), profile)
    if turn is not None:
        small = small.transpose(turn)
    if kind == "JPEG":
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        return Encoded(stream.getvalue(), "jpg", *small.size)
    suffix = "png" if max(small.size) > WEBP_MAX_SIDE else "webp"
    return Encoded(lossless(np.asarray(small)), suffix, *small.size)


def _reduced(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    scale = min(1.0, shorter / min(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resample (Lanczos) with premultiplied alpha, so that no colour bleeds out of transparent pixels."""
    if image.size == size:
        return image
    source = image.convert("RGBa") if image.mode == "RGBA" else image
    small = source.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return small.convert("RGBA") if image.mode == "RGBA" else small
