"""Invalid requests are answered in the format of the dialect, and the server keeps running."""

import base64
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.server.conftest import Served, Start, content, encoded

SHAPES = {
    "/api/v1/jobs": ("error", "code"),
    "/sdapi/v1/txt2img": ("detail", None),
    "/v1/images/generations": ("error", "type"),
}


@pytest.fixture(scope="module")
def small(pretending: Start) -> Served:
    """With narrow limits."""
    return pretending(
        limits={"body_bytes": 300_000, "queue": 40, "own_queue": 30, "picture_pixels": 1_000_000}
    )


@pytest.fixture(autouse=True)
def goes_on(small: Served) -> Iterator[None]:
    """After every test the server still draws, and has said nothing of a bug."""
    yield
    small.http.post("/api/v1/jobs/cancel")
    done = small.until(small.submit(prompt="a fox")["id"])
    assert done["state"] == "finished"
    log = small.log.read_text()
    assert "Traceback" not in log, log


def said(reply: Any, path: str) -> str:
    """The message of an error in the shape of the path's dialect."""
    outer, inner = SHAPES[path]
    body = reply.json()
    assert outer in body, body
    assert inner is None or inner in body[outer], body
    return json.dumps(body)


@pytest.mark.parametrize("path", SHAPES)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"prompt": ' + b"9" * 5000 + b"}",
        b'{"prompt": ' + b"[" * 900 + b"]" * 900 + b"}",  # what JSON still reads
        b'{"prompt": "a fox", "x": ' + b'{"a":' * 900 + b"1" + b"}" * 901,
    ],
    ids=lambda body: repr(body[:12]),
)
def test_malformed_bodies(small: Served, path: str, body: bytes) -> None:
    reply = small.http.post(path, content=body, headers={"content-type": "application/json"})
    assert 400 <= reply.status_code < 500, reply.text
    said(reply, path)
    assert "Traceback" not in small.log.read_text()


@pytest.mark.parametrize("path", SHAPES)
@pytest.mark.parametrize(
    "field",
    ["prompt", "seed", "steps", "cfg_scale"],
)
@pytest.mark.parametrize("value", [[], {}, "x" * 50, True, 1e308, -(10**30), 10**30, 1.5], ids=repr)
def test_wrong_types_and_numbers(small: Served, path: str, field: str, value: object) -> None:
    reply = small.http.post(path, json={"prompt": "a fox", "width": 64, "height": 64, field: value})
    assert reply.status_code < 500, reply.text
    if reply.status_code >= 400:
        said(reply, path)


@pytest.mark.parametrize("path", SHAPES)
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(small: Served, path: str, number: str) -> None:
    body = f'{{"prompt": "a fox", "cfg_scale": {number}}}'
    reply = small.http.post(path, content=body, headers={"content-type": "application/json"})
    assert 400 <= reply.status_code < 500
    said(reply, path)


def test_half_characters_and_zeros_in_texts(small: Served) -> None:
    for body in (r'{"prompt": "\ud800"}', r'{"prompt": "a\u0000b", "label": "\u0000"}'):
        reply = small.http.post("/api/v1/jobs", content=body, headers={"content-type": "application/json"})
        assert reply.status_code in (202, 400, 422)
    body = r'{"prompt": "x", "override_settings": {"a": "\ud800"}, "alwayson_scripts": {"\ud800": NaN}}'
    reply = small.http.post("/sdapi/v1/txt2img", content=body, headers={"content-type": "application/json"})
    assert reply.status_code < 500


# --- too much ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHAPES)
def test_giant_bodies_are_refused_before_they_are_read(small: Served, path: str) -> None:
    reply = small.http.post(path, json={"prompt": "x" * 400_000})
    assert reply.status_code == 413
    said(reply, path)


def test_a_body_without_a_length_is_cut_off_where_the_limit_is(small: Served) -> None:
    def endless() -> Iterator[bytes]:
        yield b'{"prompt": "'
        for _ in range(1000):
            yield b"x" * 10_000

    try:
        reply = small.http.post("/api/v1/jobs", content=endless())
    except Exception as error:  # it may close the connection while we still write
        assert type(error).__name__ in ("WriteError", "ReadError", "RemoteProtocolError")
    else:
        assert reply.status_code == 413


def test_more_than_the_queue_takes_is_said_with_a_time(small: Served) -> None:
    slow = small.submit(prompt="0.1 slow", steps=100)
    statuses = [small.http.post("/api/v1/jobs", json={"prompt": "0.1 slow"}).status_code for _ in range(35)]
    assert statuses.count(202) == 29 and statuses.count(429) == 6
    refused = small.http.post("/api/v1/jobs", json={"prompt": "x"})
    assert refused.json()["error"]["code"] == "too_many" and int(refused.headers["retry-after"]) > 0
    assert small.http.post("/sdapi/v1/txt2img", json={"prompt": "x"}).status_code == 429
    assert small.http.post("/v1/images/generations", json={"prompt": "x"}).status_code == 429
    assert small.job(slow["id"])["state"] == "running"


@pytest.mark.slow
def test_thousands_of_jobs_wait_and_are_answered_quickly(pretending: Start) -> None:
    many = pretending(limits={"own_queue": 5000})
    many.submit(prompt="9 slow", steps=100)  # longer than handing in takes anywhere
    jobs = [many.submit(prompt="0.1 slow")["id"] for _ in range(2500)]
    began = many.processor_s()
    for _ in range(20):
        status = many.http.get("/api/v1/status").json()["queue"]
    assert (many.processor_s() - began) / 20 < 0.2
    assert status["queued"] >= 2499
    assert many.job(jobs[-1])["position"] >= 2499
    assert many.http.post("/api/v1/jobs/cancel").json()["cancelled"] == 2501


# --- pictures ---------------------------------------------------------------------------------------------


def bomb() -> bytes:
    """A PNG of 30,000 x 30,000 px in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + chunk(b"IDAT", zlib.compress(b"\0" * 3751 * 1000))
        + chunk(b"IEND", b"")
    )


PNG = content(Image.new("RGB", (64, 64), "red"))
BAD_PICTURES = {
    "truncated": PNG[: len(PNG) // 2],
    "first bytes": PNG[:20],
    "bomb": bomb(),
    "text": b"no picture at all",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "too large": content(Image.new("L", (1200, 1200))),
}


@pytest.mark.parametrize("kind", BAD_PICTURES)
def test_pictures_that_are_none(small: Served, kind: str) -> None:
    text = base64.b64encode(BAD_PICTURES[kind]).decode()
    post = small.http.post
    for path, body in {
        "/api/v1/jobs": {"kind": "img2img", "source": {"image": text}},
        "/api/v1/info": {"image": text},
        "/sdapi/v1/img2img": {"init_images": [text]},
        "/sdapi/v1/png-info": {"image": text},
        "/sdapi/v1/extra-single-image": {"image": text},
    }.items():
        reply = post(path, json=body)
        if kind == "truncated" and path.endswith("info"):
            continue  # what stands before the break may be read
        assert 400 <= reply.status_code < 500, (path, reply.text)
    edit = post("/v1/images/edits", data={"prompt": "x"}, files={"image": ("a.png", BAD_PICTURES[kind])})
    assert edit.status_code == 400 and "error" in edit.json()


@pytest.mark.parametrize(
    "text",
    ["", "%%%", "data:image/png;base64,", "data:text/plain,x", "http://127.0.0.1:1/a.png", "file:///etc/passwd",
     "/etc/passwd", "picture:../../etc/passwd", "picture:", "A"],
)  # fmt: skip
def test_texts_that_are_no_pictures(small: Served, text: str) -> None:
    reply = small.http.post("/api/v1/jobs", json={"kind": "img2img", "source": {"image": text}})
    assert reply.status_code == 422, reply.text
    reply = small.http.post("/sdapi/v1/img2img", json={"init_images": [text], "prompt": "x"})
    assert 400 <= reply.status_code < 500


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("P", "GIF"), ("RGBA", "PNG"), ("I;16", "PNG"),
     ("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "TIFF"), ("RGBA", "WEBP"), ("LAB", "TIFF")],
)  # fmt: skip
def test_pictures_of_every_odd_mode_are_drawn_over(small: Served, mode: str, kind: str) -> None:
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    if mode == "I;16":
        image = Image.fromarray(pixels)
    else:
        image = Image.fromarray((pixels >> 8).astype(np.uint8)).convert("RGB")
        image = image.convert("RGBA") if mode == "LA" else image
        image = image.convert(mode) if mode != "LAB" else Image.new("LAB", (64, 64))
    source = {"image": encoded(image, kind)}
    done = small.until(small.submit(prompt="x", kind="img2img", source=source)["id"])
    assert done["state"] == "finished"


def test_masks_that_do_not_fit(small: Served) -> None:
    source = {"image": encoded(Image.new("RGB", (64, 64))), "mask": encoded(Image.new("L", (32, 64)))}
    reply = small.http.post("/api/v1/jobs", json={"kind": "inpaint", "source": source})
    assert reply.status_code == 422 and "same size" in reply.text
    files = {
        "image": ("a.png", content(Image.new("RGB", (64, 64)))),
        "mask": ("m.png", content(Image.new("L", (8, 8)))),
    }
    reply = small.http.post("/v1/images/edits", data={"prompt": "x"}, files=files)
    assert reply.status_code == 400 and reply.json()["error"]["param"] == "mask"


@pytest.mark.parametrize(
    "body",
    [
        {"model": "/etc/passwd"},
        {"model": "../starter"},
        {"hires": {"upscaler": "/tmp/x.pth"}},
        {"hires": {"upscaler": "x.safetensors"}},
        {"kind": "upscale", "upscale": {"image": base64.b64encode(PNG).decode(), "upscaler": "/x.pth"}},
        {"controls": [{"image": base64.b64encode(PNG).decode(), "model": "/etc/passwd"}]},
        {"prompt": "a fox <lora:/etc/passwd:1>"},
        {"prompt": "a fox <lora:x:nonsense>"},
        {"styles": ["nope"]},
        {"sampler": "nope"},
        {"schedule": "nope"},
        {"kind": "nope"},
        {"lane": "nope"},
        {"width": 10**9},
        {"batch_size": 16, "count": 16},
        {"variation": {"size": [1, 1]}},
        {"source": {"image": base64.b64encode(PNG).decode()}},
        {"expand": True, "prompt": "__../../etc/passwd__"},
    ],
    ids=lambda body: json.dumps(body)[:40],
)
def test_what_cannot_be_drawn_is_said_at_once(small: Served, body: dict[str, Any]) -> None:
    reply = small.http.post("/api/v1/jobs", json={"prompt": "x", **body})
    assert reply.status_code == 422, reply.text
    assert reply.json()["error"]["message"]


# --- clients that misbehave -------------------------------------------------------------------------------


def request_of(path: str, body: bytes, length: int | None = None) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return (
        head.encode() + f"Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body
    )


def await_running(served: Served, count: int) -> None:
    """Until so many jobs are being drawn; well before they would end by themselves."""
    end = time.monotonic() + 8
    while served.http.get("/api/v1/status").json()["queue"]["running"] != count:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_clients_that_vanish_take_their_jobs_along(small: Served) -> None:
    for path in ("/sdapi/v1/txt2img", "/v1/images/generations"):
        with socket.create_connection(("127.0.0.1", small.port)) as client:
            client.sendall(request_of(path, b'{"prompt": "0.2 vanishing", "steps": 100}'))
            await_running(small, 1)
        await_running(small, 0)


def test_clients_that_vanish_in_the_middle_of_what_they_say(small: Served) -> None:
    for part in (b"", b"POST", b"POST /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n"):
        with socket.create_connection(("127.0.0.1", small.port)) as client:
            client.sendall(part)
    with socket.create_connection(("127.0.0.1", small.port)) as client:
        client.sendall(request_of("/api/v1/jobs", b'{"prompt"', length=5000))
    status = small.http.get("/api/v1/status")  # the server goes on, and took none of it for a job
    assert status.status_code == 200
    assert status.json()["queue"]["running"] == 0


def test_nonsense_instead_of_http(small: Served) -> None:
    for nonsense in (
        b"\x16\x03\x01\x02\x00\x01" * 50,
        b"GET / HTTP/9.9\r\n\r\n",
        b"A" * 100_000,
        b"\0" * 1000,
    ):
        with socket.create_connection(("127.0.0.1", small.port)) as client:
            client.settimeout(5)
            try:
                client.sendall(nonsense)
                client.recv(1000)
            except OSError:
                pass
        assert small.http.get("/api/v1/status").status_code == 200


def test_slow_readers_of_events_hold_nobody_up(small: Served) -> None:
    readers = []
    for _ in range(30):
        reader = socket.create_connection(("127.0.0.1", small.port))
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        reader.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        readers.append(reader)
    try:
        jobs = [small.submit(prompt="0.001 x", steps=150) for _ in range(5)]
        for job in jobs:
            assert small.until(job["id"])["state"] == "finished"
    finally:
        for reader in readers:
            reader.close()


def test_many_at_once_are_all_answered(small: Served) -> None:
    statuses: list[int] = []

    def ask() -> None:
        import httpx

        reply = httpx.post(f"{small.url}/v1/images/generations", json={"prompt": "x", "n": 1}, timeout=60)
        statuses.append(reply.status_code)

    threads = [threading.Thread(target=ask) for _ in range(25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 429} and statuses.count(200) >= 20
