"""Options of the server: model, limits, marks and signatures."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import webuiapi
from PIL import Image, ImageDraw

from pochade.images.embedded_text import mark_of, text_of
from pochade.images.marks import EDITED, GENERATED
from tests.controls import write_control
from tests.server.conftest import Served, Start, encoded

SMALL: dict[str, Any] = {"prompt": "a red apple", "seed": 7, "steps": 2}


@pytest.fixture(scope="module")
def full(serving: Start, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """One that has a ControlNet and a style, and does not mark what it draws."""
    folder = tmp_path_factory.mktemp("models")
    write_control(folder / "controlnet" / "edges")
    styles = folder / "styles.csv"
    styles.write_text('name,prompt,negative_prompt\n3d,"{prompt}, 3d style",\n')
    return serving("--models", str(folder), "--styles", str(styles), "--no-mark")


def files(served: Served, **body: Any) -> list[bytes]:
    done = served.until(served.submit(**{**SMALL, **body})["id"])
    assert done["state"] == "finished", done
    return [served.http.get(each["url"]).content for each in done["pictures"]]


def sketch() -> Image.Image:
    image = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(image).rectangle((30, 30, 70, 90), fill="black")
    return image


# --- what the files say -------------------------------------------------------------------------------


@pytest.mark.slow
def test_pictures_are_signed_if_the_server_was_told_to(serving: Start, environment: dict[str, str]) -> None:
    pytest.importorskip("c2pa", reason="the extra c2pa is not installed")
    from pochade.images.signing import read_signature

    signing = serving("--sign")
    first, second = files(signing, count=2)
    (over,) = files(signing, kind="img2img", source={"image": encoded(sketch())})
    for content, mark in ((first, GENERATED), (second, GENERATED), (over, EDITED)):
        signature = read_signature(content, "PNG")
        assert signature is not None and signature.state == "Valid"
        assert signature.source_type.rpartition("/")[2] == mark == mark_of(content)
        assert text_of(content).startswith("a red apple\nSteps: 2,")
    done = signing.until(signing.submit(kind="upscale", upscale={"image": encoded(sketch())})["id"])
    larger = signing.http.get(done["pictures"][0]["url"]).content
    assert read_signature(larger, "PNG") is None and mark_of(larger) is None  # no model has touched it
    key = Path(environment["XDG_DATA_HOME"]) / "pochade" / "signing.pem"
    assert key.stat().st_mode & 0o077 == 0
    spoiled = bytearray(first)
    spoiled[-1000] ^= 1
    broken = read_signature(bytes(spoiled), "PNG")
    assert broken is None or broken.state != "Valid"  # so that "Valid" says something


def test_pictures_are_marked_unless_the_server_was_told_not_to(studio: Served, full: Served) -> None:
    source = {"image": encoded(sketch())}
    assert [mark_of(each) for each in files(studio)] == [GENERATED]
    assert [mark_of(each) for each in files(studio, kind="img2img", source=source)] == [EDITED]
    for content in (*files(full), *files(full, kind="img2img", source=source)):
        assert mark_of(content) is None and text_of(content).startswith("a red apple\n")


# --- what it draws with -------------------------------------------------------------------------------


def test_styles_of_a_file(full: Served) -> None:
    assert full.http.get("/api/v1/styles").json()["styles"][0]["name"] == "3d"
    done = full.until(full.submit(**SMALL, styles=["3d"])["id"])
    assert done["pictures"][0]["prompt"] == "a red apple, 3d style"
    unknown = full.http.post("/api/v1/jobs", json={**SMALL, "styles": ["4d"]})
    assert unknown.status_code == 422 and "one of: 3d" in unknown.json()["error"]["message"]


@pytest.fixture(scope="module")
def a1111(full: Served) -> Iterator[webuiapi.WebUIApi]:
    api = webuiapi.WebUIApi(host="127.0.0.1", port=full.port, sampler="DPM++ 2M", steps=2)
    yield api
    api.session.close()


A1111 = {**SMALL, "width": 128, "height": 128}


def drawn(a1111: webuiapi.WebUIApi, *units: webuiapi.ControlNetUnit) -> Image.Image:
    # The client keeps the units of the call before, unless it is given a table of its own.
    image: Image.Image = a1111.txt2img(**A1111, controlnet_units=list(units), alwayson_scripts={}).image
    return image


def test_units_of_the_controlnet_extension(full: Served, a1111: webuiapi.WebUIApi) -> None:
    unit = webuiapi.ControlNetUnit(image=sketch(), model="edges", module="canny", weight=0.7)
    along, plain = drawn(a1111, unit), drawn(a1111)
    assert along.tobytes() != plain.tobytes()
    off = webuiapi.ControlNetUnit(image=sketch(), model="edges", enabled=False)
    assert drawn(a1111, off).tobytes() == plain.tobytes()
    text = along.info["parameters"]
    assert 'ControlNet 0: "Module: canny' in text and "Weight: 0.7" in text
    # The same by the native API: the extension's words mean what ours do.
    control = {"image": encoded(sketch()), "model": "edges", "preprocessor": "canny", "strength": 0.7}
    done = full.until(full.submit(**A1111, controls=[{**control, "resize_mode": "fill"}])["id"])
    content = full.http.get(done["pictures"][0]["url"]).content
    assert Image.open(io.BytesIO(content)).tobytes() == along.tobytes()
    second = webuiapi.ControlNetUnit(image=sketch(), model="edges", guidance_start=0.5)
    text = drawn(a1111, unit, second).info["parameters"]
    assert 'ControlNet 1: "' in text and "Guidance Start: 0.5" in text


def test_a_unit_without_a_picture_goes_by_the_one_that_is_drawn_over(a1111: webuiapi.WebUIApi) -> None:
    unit = webuiapi.ControlNetUnit(model="edges", module="invert (from white bg & black line)")
    over = {**A1111, "images": [sketch()], "alwayson_scripts": {}}
    image = a1111.img2img(**over, controlnet_units=[unit]).image
    assert 'ControlNet 0: "Module: invert' in image.info["parameters"]


def test_how_a_unit_brings_its_picture_to_size(a1111: webuiapi.WebUIApi) -> None:
    """By number, or by any name that the extension had for it; without one it is the middle."""
    unit = {"image": encoded(sketch()), "model": "edges", "module": "canny"}
    label = {"stretch": "Just Resize", "crop": "Crop and Resize", "fill": "Resize and Fill"}
    for given, mode in (
        (0, "stretch"),
        (1, "crop"),
        (2, "fill"),
        ("Envelope (Outer Fit)", "fill"),
        ("Scale to Fit (Inner Fit)", "crop"),
        ("Just Resize", "stretch"),
        ("2", "fill"),
        (None, "crop"),
    ):
        args = [{**unit, "resize_mode": given}]
        body = {**A1111, "steps": 1, "alwayson_scripts": {"controlnet": {"args": args}}}
        reply = a1111.session.post(f"{a1111.baseurl}/txt2img", json=body).json()
        assert f"Resize Mode: {label[mode]}," in json.loads(reply["info"])["infotexts"][0], given


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resize_mode": "bend"}, "resize_mode is 'bend'; one of: stretch"),
        ({"resize_mode": 7}, "resize_mode is '7'; one of: stretch"),
        ({"model": "nope"}, "ControlNet 'nope' is unknown; one of: edges"),
        ({"module": "magic"}, "preprocessor 'magic' is unknown"),
        ({"image": None}, "has no image"),
        ({"image": "aGVsbG8="}, "picture"),
        ({"weight": "much"}, "values must be numbers"),
        ({"weight": 9}, "strength of a control is 9"),
        ({"guidance_start": 0.8, "guidance_end": 0.2}, "end of a control"),
        ({"control_mode": "ControlNet is more important"}, "modes other than Balanced"),
        ({"mask": "aGVsbG8="}, "masks and modes"),
    ],
)
def test_units_that_cannot_be_drawn(a1111: webuiapi.WebUIApi, changes: dict[str, Any], message: str) -> None:
    unit = {"image": encoded(sketch()), "model": "edges", "module": "none", **changes}
    body = {**A1111, "alwayson_scripts": {"controlnet": {"args": [unit]}}}
    reply = a1111.session.post(f"{a1111.baseurl}/txt2img", json=body)
    assert 400 <= reply.status_code < 500 and message in reply.json()["detail"], reply.text
