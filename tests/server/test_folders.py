"""Model folders of other programs on the server, and upscaling with models in them."""

import base64
import io
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from safetensors.torch import save_file

from pochade.images.embedded_text import mark_of, text_of
from pochade.images.files import encoded as file_of
from pochade.images.marks import EDITED, ENHANCED
from pochade.jobs.catalogue import Folders, scan_folders
from tests.additions import write_adapter, write_embedding
from tests.server.conftest import Served, Start, encoded
from tests.upscalers import make_upscaler

TEXT = "a fox\nSteps: 2, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 24x16"


@pytest.fixture(scope="module")
def full(serving: Start, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """One whose folder of models is like that of A1111's web UI, with a folder of ComfyUI's in it."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("models/ESRGAN", "models/Lora", "models/LyCORIS", "models/loras", "embeddings"):
        (folder / name).mkdir(parents=True)
    write_adapter(folder / "models/Lora/ink.safetensors")
    write_adapter(folder / "models/LyCORIS/paint.safetensors")
    write_adapter(folder / "models/loras/chalk.safetensors")
    write_embedding(folder / "embeddings/blob.safetensors")
    save_file(make_upscaler().state_dict(), folder / "models/ESRGAN/tiny.safetensors")
    return serving("--models", str(folder), "--device", "cpu")


def picture() -> Image.Image:
    return Image.new("RGB", (24, 16), "orange")


def larger(full: Served, file: str, **upscale: Any) -> tuple[dict[str, Any], bytes]:
    """The picture as it is listed, and its file."""
    done = full.until(full.submit(kind="upscale", upscale={"image": file, **upscale})["id"])
    assert done["state"] == "finished", done
    (made,) = done["pictures"]
    reply: httpx.Response = full.http.get(made["url"])
    return made, reply.content


# --- adapters and embeddings ----------------------------------------------------------------------------


def test_adapters_lie_in_all_their_folders(full: Served) -> None:
    listed = [each["name"] for each in full.http.get("/api/v1/loras").json()["loras"]]
    assert listed == ["chalk", "ink", "paint"]
    words = full.http.get("/api/v1/embeddings").json()["embeddings"]
    assert [each["name"] for each in words] == ["blob"]
    assert full.http.get("/sdapi/v1/embeddings").json()["loaded"]["blob"]["vectors"] == 2
    request = {"prompt": "a blob <lora:paint:0.5>", "seed": 7, "steps": 1}
    done = full.until(full.submit(**request)["id"])
    assert done["state"] == "finished", done
    text = done["pictures"][0]["text"]
    assert 'Lora hashes: "paint: ' in text and 'TI hashes: "blob: ' in text


def test_a_folder_that_is_named_stands_in_place_of_them(tmp_path: Path) -> None:
    (tmp_path / "models/Lora").mkdir(parents=True)
    (tmp_path / "own").mkdir()
    write_adapter(tmp_path / "models/Lora/ink.safetensors")
    write_adapter(tmp_path / "own/oil.safetensors")
    assert scan_folders(Folders(roots=(tmp_path,))).loras == ["ink"]
    assert scan_folders(Folders(roots=(tmp_path,), loras=tmp_path / "own")).loras == ["oil"]
    assert scan_folders(Folders()).loras == []


# --- made larger --------------------------------------------------------------------------------------


def test_a_picture_is_made_larger_by_a_model(full: Served) -> None:
    made, file = larger(full, encoded(picture()), upscaler="tiny", scale=4)
    assert (made["width"], made["height"]) == (96, 64)
    assert (made["text"], made["prompt"], mark_of(file)) == ("", "", ENHANCED)
    body = {"image": encoded(picture()), "upscaler_1": "tiny", "upscaling_resize": 2}
    reply = full.http.post("/sdapi/v1/extra-single-image", json=body)
    assert reply.status_code == 200, reply.text
    assert reply.json()["image"]


def test_an_upscaler_that_came_after_the_start_draws_once_the_server_has_looked(full: Served) -> None:
    larger(full, encoded(picture()), upscaler="tiny")  # the worker has looked by now
    folder = Path(full.command[full.command.index("--models") + 1]) / "models/ESRGAN"
    (folder / "late.safetensors").write_bytes((folder / "tiny.safetensors").read_bytes())
    late = {"kind": "upscale", "upscale": {"image": encoded(picture()), "upscaler": "late"}}
    assert full.http.post("/api/v1/jobs", json=late).status_code == 422
    assert full.http.post("/api/v1/models/refresh").status_code == 200
    made, _ = larger(full, encoded(picture()), upscaler="late")
    assert (made["width"], made["height"]) == (48, 32)


def test_what_a_picture_says_of_itself_is_kept(full: Served) -> None:
    drawn = base64.b64encode(file_of(picture(), "JPEG", TEXT, mark=EDITED)).decode()
    for upscaler, shown in (("Lanczos", "Lanczos"), ("tiny", "tiny")):
        made, file = larger(full, drawn, upscaler=upscaler, scale=1.5)
        text = f"{TEXT}, Postprocess upscale by: 1.5, Postprocess upscaler: {shown}"
        assert text_of(file) == made["text"] == text
        assert made["prompt"] == "a fox"
        assert mark_of(file) == EDITED
        # and so it goes on from one's own pictures
        again, file = larger(full, f"picture:{made['id']}", upscaler="Nearest", scale=1)
        assert again["text"].startswith(text) and mark_of(file) == EDITED


def test_a_photograph_gets_neither_text_nor_mark(full: Served) -> None:
    photograph = encoded(picture())
    made, file = larger(full, photograph, upscaler="Lanczos")
    assert (made["text"], text_of(file), mark_of(file)) == ("", "", None)
    with Image.open(io.BytesIO(file)) as image:
        assert image.size == (48, 32)
