"""Size limits, checked from headers before pictures are decoded."""

import asyncio
import io
import struct
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from pochade.errors import InvalidRequest
from pochade.images.decode import read_picture, size_in_header
from pochade.jobs import limits
from pochade.jobs.catalogue import Folders, scan_folders
from pochade.jobs.job_request import read_job_request
from pochade.jobs.limits import Limits
from pochade.jobs.orders import IMG2IMG, INPAINT, TXT2IMG, UPSCALE, Order, Upscale
from pochade.jobs.runner import JobRunner
from pochade.server import submission
from pochade.server.service import MAX_DECODING, Service
from tests.server.conftest import content, encoded
from tests.server.in_process import served

REQUEST: dict[str, Any] = {
    "prompt": "a fox", "negative_prompt": "", "seed": 1, "steps": 4, "cfg_scale": 7.0, "batch_size": 1,
    "sampler": "Euler", "schedule": "Automatic"}  # fmt: skip


def over(kind: str = IMG2IMG, source: dict[str, Any] | None = None, **changes: Any) -> Order:
    given = {"image": 0, "mask": None, **(source or {})}
    return Order(
        kind=kind, model="starter", request=read_job_request({**REQUEST, **changes, "source": given})
    )


def blank(width: int, height: int, kind: str = "PNG", turned: bool = False) -> bytes:
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6
    return content(Image.new("1" if kind == "PNG" else "L", (width, height)), kind, exif=exif)


MARGINS = {"left": 4096, "top": 4096, "right": 4096, "bottom": 4096}


@pytest.mark.parametrize(
    ("order", "picture", "message"),
    [
        # What a request leaves open comes from the source, not from the model.
        (over(width=2048), (64, 8000), "height is 8000|2048 x 8000"),
        (over(height=2048), (8000, 64), "width is 8000|8000 x 2048"),
        (over(), (1, 1_000_000), "height is"),
        (over(width=2048), (8000, 64), ""),
        (over(), (64, 64), ""),
        # The margins are part of what is drawn over.
        (over(INPAINT, {"outpaint": MARGINS}), (1, 1_000_000), "8193 x 1008192"),
        (over(INPAINT, {"outpaint": MARGINS}, width=512, height=512), (1, 1_000_000), "with its margins"),
        (over(INPAINT, {"outpaint": {**MARGINS, "left": None}}, width=512, height=512), (64, 64), "margins"),
        # Looking closer draws the model's own size.
        (over(INPAINT, {"mask": 0, "only_masked": True}, width=2048), (64, 8000), ""),
        (
            Order(kind=UPSCALE, model="", upscale=Upscale(image=0, scale=8.0)),
            (2000, 10),
            "side of the larger",
        ),
        (
            Order(kind=UPSCALE, model="", upscale=Upscale(image=0, size=(512, 512), crop=True)),
            (1, 1_000_000),
            "side of the larger",
        ),
    ],
)
def test_the_size_that_will_be_drawn_is_what_counts(
    order: Order, picture: tuple[int, int], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    def decode(content: bytes) -> Image.Image:
        decoded.append(len(content))
        return read_picture(content)

    monkeypatch.setattr(submission, "read_picture", decode)
    catalogue = scan_folders(Folders())
    files = [blank(*picture)]
    if not message:
        submission.check(order, files, catalogue, Limits(), (512, 512))
        assert decoded
        return
    with pytest.raises(InvalidRequest, match=message):
        submission.check(order, files, catalogue, Limits(), (512, 512))
    assert decoded == [], "it was decoded before its size was looked at"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_header_tells_the_size_that_the_picture_will_have(kind: str, turned: bool) -> None:
    file = blank(96, 32, kind, turned)
    assert size_in_header(file) == read_picture(file).size == ((32, 96) if turned else (96, 32))


def test_a_turned_picture_has_its_limit_on_the_right_side() -> None:
    with pytest.raises(InvalidRequest, match=r"height is 8000|2048 x 8000"):
        limits.check(over(width=2048), Limits(), (512, 512), [size_in_header(blank(8000, 64, "JPEG", True))])


def test_many_pictures_of_one_job_have_a_limit_together() -> None:
    controls = [{"image": number, "model": "x"} for number in range(5)]
    order = Order(kind=TXT2IMG, model="starter", request=read_job_request({**REQUEST, "controls": controls}))
    few = Limits(picture_pixels=10_000)
    assert limits.check(order, few, (512, 512), [(100, 100)] * 4) == (512, 512)
    with pytest.raises(InvalidRequest, match="5 pictures of 50,000 px together"):
        limits.check(order, few, (512, 512), [(100, 100)] * 5)


@pytest.mark.parametrize(
    ("order", "picture", "size"),
    [
        (over(), (640, 480), (640, 480)),
        (over(), (4000, 1000), (1024, 256)),
        (over(), (900, 900), (512, 512)),
        # What is kept of a picture has room for more pixels.
        (over(INPAINT, {"mask": 1}), (900, 900), (904, 904)),
        (over(INPAINT, {"outpaint": {"left": 100}}), (800, 900), (904, 904)),
        (over(INPAINT, {"mask": 1, "only_masked": True}), (900, 900), (512, 512)),
        # Just the picture's own size is drawn in whole latent pixels.
        (over(width=700, height=701), (700, 701), (704, 704)),
        (over(width=256), (4000, 1000), (256, 256)),
    ],
)
def test_the_size_is_that_which_the_worker_draws(
    order: Order, picture: tuple[int, int], size: tuple[int, int]
) -> None:
    assert limits.check(order, Limits(), (512, 512), [picture, picture]) == size


@pytest.mark.parametrize(
    ("hires", "message"),
    [
        ({"size": [4096, 64]}, "width of the second pass is 4096"),
        ({"scale": 4.0}, "second pass is 2048"),
        ({}, ""),
    ],
)
def test_the_second_pass_has_the_limit_of_its_sides(hires: dict[str, Any], message: str) -> None:
    order = Order(kind=TXT2IMG, model="starter", request=read_job_request({**REQUEST, "hires": hires}))
    narrow = Limits(side=1024)
    if not message:
        assert limits.check(order, narrow, (512, 512)) == (512, 512)
        return
    with pytest.raises(InvalidRequest, match=message):
        limits.check(order, narrow, (512, 512))


def test_the_worker_looks_again_with_the_size_of_the_model_that_it_has() -> None:
    def none(number: int) -> bytes:
        raise AssertionError(number)

    order = Order(kind=TXT2IMG, model="starter", request=read_job_request(REQUEST))
    runner = JobRunner(Folders(), device="cpu", engine="numpy", pixels="1000", side="8192")
    with pytest.raises(InvalidRequest, match="at most 1,000 pixels are allowed"):
        list(runner.draw(order, none, lambda: None))


def test_a_stretched_picture_is_refused_at_the_door(tmp_path: Path) -> None:
    async def ask(service: Service, http: httpx.AsyncClient) -> list[int]:
        picture = encoded(Image.new("1", (64, 8000)))
        long = encoded(Image.new("1", (1, 1_000_000)))
        native = {"prompt": "x", "kind": "img2img", "source": {"image": picture}, "width": 2048}
        further = {"prompt": "x", "kind": "inpaint", "source": {"image": long, "outpaint": MARGINS}}
        files = {"image": ("a.png", content(Image.new("1", (8, 9000))))}
        replies = [
            await http.post("/api/v1/jobs", json=native),
            await http.post("/api/v1/jobs", json={**further, "width": 512, "height": 512}),
            await http.post("/v1/images/edits", data={"prompt": "x"}, files=files),
        ]
        return [reply.status_code for reply in replies]

    assert served(tmp_path, ask) == [422, 422, 400]


def test_few_pictures_are_decoded_at_once_in_every_dialect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding is made slow and then refused, so that no request goes on from it."""
    from pochade.images import decode as opening

    counting, at_once, most = threading.Lock(), 0, 0

    def decode(content: bytes) -> Image.Image:
        nonlocal at_once, most
        with counting:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.05)
        with counting:
            at_once -= 1
        raise InvalidRequest("decoded")

    monkeypatch.setattr(opening, "read_picture", decode)
    monkeypatch.setattr(submission, "read_picture", decode)
    image, file = encoded(Image.new("L", (64, 64))), content(Image.new("L", (64, 64)))
    sent: dict[str, dict[str, Any]] = {
        "/api/v1/jobs": {"json": {"prompt": "x", "kind": "img2img", "source": {"image": image}}},
        "/sdapi/v1/img2img": {"json": {"init_images": [image], "mask": image}},
        "/v1/images/edits": {"data": {"prompt": "x"}, "files": {"image": ("a.png", file)}},
    }

    async def ask(service: Service, http: httpx.AsyncClient) -> list[int]:
        asking = [http.post(path, **body) for path, body in sent.items() for _ in range(4)]
        return [reply.status_code for reply in await asyncio.gather(*asking)]

    assert set(served(tmp_path, ask)) == {422, 400}
    assert most == MAX_DECODING


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"])
def test_nothing_is_decoded_for_a_size(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = blank(96, 32, kind)
    opened = type(Image.open(io.BytesIO(file)))
    monkeypatch.setattr(opened, "load", lambda self: pytest.fail("it was decoded"))
    assert size_in_header(file) == (96, 32)


def turned_behind_its_pixels(width: int, height: int) -> bytes:
    """A PNG whose eXIf chunk comes last."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
    file = blank(width, height)
    return file[:-12] + chunk + file[-12:]


def test_what_is_turned_behind_its_pixels_is_looked_at_again() -> None:
    file = turned_behind_its_pixels(8000, 64)
    assert size_in_header(file) == (8000, 64) and read_picture(file).size == (64, 8000)
    with pytest.raises(InvalidRequest, match=r"height is 8000|2048 x 8000"):
        submission.check(over(width=2048), [file], scan_folders(Folders()), Limits(), (512, 512))
