"""Decoding pictures of any mode, size and origin, and files that are not pictures."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pochade.errors import InvalidRequest
from pochade.images.decode import (
    UnreadablePicture,
    on_white,
    open_picture,
    read_mask,
    read_picture,
    size_in_header,
)


def content(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixel(image: Image.Image) -> tuple[int, ...]:
    found = image.getpixel((0, 0))
    assert isinstance(found, tuple)
    return found


def test_every_mode_becomes_eight_bit_colour() -> None:
    red = Image.new("RGB", (4, 3), (255, 0, 0))
    for image, kind in (
        (red, "PNG"), (red.convert("P"), "PNG"), (red.convert("P"), "GIF"), (red, "WEBP"), (red, "BMP"),
        (red.convert("CMYK"), "TIFF"), (red.convert("RGBA"), "PNG"),
    ):  # fmt: skip
        read = read_picture(content(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
        assert (read.mode, read.size) == ("RGB", (4, 3)), kind
        assert pixel(read) == (255, 0, 0), kind
    deep = Image.fromarray(np.full((3, 4), 0x8000, np.uint16))
    assert pixel(read_picture(content(deep))) == (128, 128, 128)


def test_a_turned_picture_is_set_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_picture(content(Image.new("RGB", (40, 20)), "JPEG", exif=exif)).size == (20, 40)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_size_is_known_before_decoding(kind: str, turn: int) -> None:
    """Pillow turns TIFF files by itself, and only those."""
    exif = Image.Exif()
    exif[0x0112] = turn
    file = content(Image.new("RGB", (40, 20)), kind, exif=exif)
    assert size_in_header(file) == read_picture(file).size == ((40, 20) if turn < 5 else (20, 40))


def test_a_mask_may_be_transparent_everywhere() -> None:
    nothing = Image.new("RGBA", (4, 3), (255, 255, 255, 0))
    assert read_mask(content(nothing)) == nothing
    with pytest.raises(UnreadablePicture, match="an empty picture"):
        read_picture(content(nothing))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_mask(content(nothing, exif=exif)).size == (3, 4)
    assert read_mask(content(Image.new("L", (4, 3), 7))).getpixel((0, 0)) == (7, 7, 7)


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    animated = content(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixel(read_picture(animated)) == (255, 0, 0)


def test_transparency_is_kept_and_white_below_it() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    read = read_picture(content(image))
    assert read.mode == "RGBA"
    assert pixel(on_white(read)) == (255, 255, 255)
    assert on_white(read).getpixel((1, 0)) == (255, 0, 0)


def test_a_hundred_megapixels_are_refused_by_the_header(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 10_000, 10_001, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb)
    with pytest.raises(InvalidRequest, match=r"bomb\.png' is too many pixels: .*; the limit is 80,000,000"):
        open_picture(path)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (b"", "an empty file"),
        (b"hello there", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a picture"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path: Path, given: bytes, fault: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(given)
    with pytest.raises(InvalidRequest, match=rf"x\.png' is {fault}"):
        open_picture(path)
    with pytest.raises(InvalidRequest, match="cannot be read: No such file"):
        open_picture(tmp_path / "absent.png")
    with pytest.raises(InvalidRequest, match="cannot be read: Is a directory"):
        open_picture(tmp_path)


def test_half_a_picture_is_damaged(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = content(Image.fromarray(noise))
    path = tmp_path / "half.png"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidRequest, match=r"half\.png' is a damaged picture"):
        open_picture(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_what_is_on_white_outlives_its_file(tmp_path, mode):
    Image.new("RGB", (9, 7), "red").convert(mode).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        seen = on_white(image)
    assert seen.resize((3, 3)).mode == "RGB"
