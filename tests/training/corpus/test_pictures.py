"""Converting pictures for shards, and refusing harmful ones."""

import io
import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from pochade.images.decode import MAX_PIXELS
from pochade.training.corpus import Unusable
from pochade.training.corpus.pictures import Encoded, encoded, lossless

SIZE = 32
RNG = np.random.default_rng(1)
LEFT_RED = np.zeros((20, 40, 3), np.uint8)
LEFT_RED[:, :20] = (255, 0, 0)
LEFT_RED[:, 20:] = (0, 0, 255)


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8))


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(made: Encoded) -> NDArray[np.uint8]:
    picture = np.asarray(Image.open(io.BytesIO(made.content)))
    assert picture.shape[:2] == (made.height, made.width)
    return picture


def png_header(width: int, height: int) -> bytes:
    """A PNG of which there is only the header: decoding it would be an error, but reading its size is not."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    data = b"IDAT" + zlib.compress(bytes(10))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk
        + struct.pack(">I", len(data) - 4)
        + data
        + struct.pack(">I", zlib.crc32(data))
    )


@pytest.mark.parametrize(("kind", "suffix"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")])
def test_what_fits_keeps_its_very_bytes(kind: str, suffix: str) -> None:
    content = file_of(Image.fromarray(LEFT_RED), kind)
    assert encoded(content, SIZE) == Encoded(content, suffix, 40, 20)


@pytest.mark.parametrize(
    ("size", "expected"), [((400, 200), (64, 32)), ((100, 300), (32, 96)), ((30, 500), (30, 500))]
)
def test_the_shorter_side_is_reduced_and_the_aspect_kept(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    made = encoded(file_of(Image.new("RGB", size, "red"), "PNG"), SIZE)
    assert (made.width, made.height) == expected
    assert (pixels(made) == (255, 0, 0)).all()


def test_a_large_jpeg_stays_a_jpeg_of_the_same_look() -> None:
    smooth = Image.fromarray(RNG.integers(0, 256, (8, 12, 3), np.uint8)).resize(
        (600, 400), Image.Resampling.BICUBIC
    )
    made = encoded(file_of(smooth, "JPEG", quality=98), 64)
    assert (made.suffix, made.width, made.height) == ("jpg", 96, 64)
    expected = np.asarray(smooth.resize((96, 64), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(pixels(made) - expected).mean() < 3


def test_exif_orientation_is_followed() -> None:
    """6 says: turn by 90 degrees clockwise to see it upright; the left half becomes the upper one."""
    image = Image.fromarray(LEFT_RED)
    exif = image.getexif()
    exif[0x0112] = 6
    for kind in ("JPEG", "PNG", "TIFF", "WEBP"):
        made = encoded(file_of(image, kind, exif=exif), SIZE)
        assert (made.width, made.height) == (20, 40), kind
        picture = pixels(made).astype(int)
        assert picture[:16, :, 0].min() > 200 and picture[24:, :, 2].min() > 200, kind


def test_palettes_and_their_transparency() -> None:
    image = Image.fromarray(LEFT_RED).quantize(2)
    assert np.array_equal(pixels(encoded(file_of(image, "PNG"), SIZE)), LEFT_RED)
    red = image.getpixel((0, 0))
    holes = pixels(encoded(file_of(image, "PNG", transparency=red), SIZE))
    assert holes.shape == (20, 40, 4)
    assert (holes[:, :20, 3] == 0).all() and (holes[:, 20:] == (0, 0, 255, 255)).all()


def test_sixteen_bits_are_not_clipped() -> None:
    values = np.linspace(0, 65535, 40, dtype=np.uint16)[None].repeat(20, 0)
    picture = pixels(encoded(file_of(Image.fromarray(values), "PNG"), SIZE))
    assert picture.shape == (20, 40, 3)
    assert np.array_equal(picture[..., 1], (values >> 8).astype(np.uint8))


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_gray_becomes_rgb(mode: str) -> None:
    image = Image.new("L", (40, 20), 255).convert(mode)
    picture = pixels(encoded(file_of(image, "PNG"), SIZE))
    assert (picture == 255).all() and picture.shape == (20, 40, 3)  # alpha that hides nothing is dropped


def test_cmyk_is_read_as_colours() -> None:
    image = Image.new("CMYK", (40, 20), (0, 255, 255, 0))
    made = encoded(file_of(image, "JPEG", quality=95), SIZE)
    picture = pixels(made).astype(int)
    assert picture[..., 0].min() > 245 and picture[..., 1:].max() < 10


def test_a_foreign_colour_profile_is_converted() -> None:
    """A profile like sRGB's with red and green exchanged: the picture's numbers must change places too."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("RGB", (40, 20), (180, 60, 90))
    plain = file_of(image, "PNG", icc_profile=srgb)
    assert encoded(plain, SIZE).content == plain
    red, green = (srgb.index(tag) + 4 for tag in (b"rXYZ", b"gXYZ"))
    other = bytearray(srgb.replace("sRGB".encode("utf-16-be"), "tRGB".encode("utf-16-be")))
    other[red : red + 4], other[green : green + 4] = srgb[green : green + 4], srgb[red : red + 4]
    made = pixels(encoded(file_of(image, "PNG", icc_profile=bytes(other)), SIZE)).astype(int)
    assert np.abs(made - (60, 180, 90)).max() <= 2
    broken = file_of(image, "PNG", icc_profile=b"no profile at all")
    assert (pixels(encoded(broken, SIZE)) == (180, 60, 90)).all()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (40, 20), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = file_of(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    made = encoded(content, SIZE)
    assert (pixels(made) == (255, 0, 0)).all()
    assert getattr(Image.open(io.BytesIO(made.content)), "n_frames", 1) == 1


def test_no_dark_fringe_after_reducing() -> None:
    white = np.zeros((320, 320, 4), np.uint8)
    white[80:240, 80:240] = 255
    picture = pixels(encoded(file_of(Image.fromarray(white), "PNG"), SIZE + 1))
    visible = picture[picture[..., 3] > 16]
    assert visible[:, :3].min() >= 250
    assert (visible[:, 3] < 255).sum() > 0


def test_lossless_is_lossless_below_transparent_pixels_too() -> None:
    noise = RNG.integers(0, 256, (9, 7, 4), np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(lossless(noise)))), noise)
    long = np.full((1, 17000, 3), 7, np.uint8)  # longer than WebP can be
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(lossless(long)))), long)


# --- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [9000, 12000, 40000])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    """Between 89 and 179 million pixels Pillow warns, above it raises; the limit here is lower than both."""
    with pytest.raises(Unusable, match=f"too many pixels.*{MAX_PIXELS:,}"):
        encoded(png_header(side, side), SIZE)


def test_a_wide_picture_is_no_bomb() -> None:
    assert encoded(file_of(Image.new("RGB", (40_000, 4), "red"), "PNG"), SIZE).width == 40_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"this is no picture", "not a picture in a supported format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture in a supported format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture in a supported format"),
        (file_of(noise(90, 90), "JPEG")[:2000], "a damaged picture"),
        (file_of(noise(90, 90), "PNG")[:2000], "a damaged picture"),
        (file_of(noise(90, 90), "WEBP", lossless=True)[:2000], "a damaged picture"),
        (png_header(10, 10), "a damaged picture"),
        (png_header(0, 10), "not a picture in a supported format"),
        (file_of(Image.new("RGBA", (9, 9)), "PNG"), "an empty picture"),
        (file_of(Image.new("F", (9, 9)), "TIFF"), "a floating-point picture"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_has_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(Unusable) as refused:
        encoded(content, SIZE)
    assert refused.value.reason == reason


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_damage_anywhere_never_ends_in_another_error(kind: str) -> None:
    content = file_of(noise(24, 24), kind)
    for _ in range(60):
        damaged = bytearray(content)
        for place in RNG.integers(0, len(content), 4):
            damaged[place] = RNG.integers(0, 256)
        try:
            assert encoded(bytes(damaged[: RNG.integers(1, len(content) + 1)]), 16).content
        except Unusable as refused:
            assert refused.reason
