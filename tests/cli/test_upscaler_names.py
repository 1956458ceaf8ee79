"""Upscalers by name: ESRGAN files in the folders of A1111's web UI, ComfyUI and Pochade."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pochade.checkpoints import safetensors
from pochade.checkpoints.contents import contents_of
from pochade.checkpoints.library import describe, entries, folders
from pochade.cli.main import main
from pochade.errors import InvalidCheckpoint, InvalidRequest
from pochade.jobs.catalogue import Folders, scan_folders
from pochade.loading.auxiliary import resolve_upscaler
from tests.upscalers import first_names, make_upscaler, trunk_names

PLACES = ("models/ESRGAN", "models/RealESRGAN", "models/upscale_models", "ESRGAN", "upscale_models/deep")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models as A1111's web UI has it, with one upscaler in it."""
    root = tmp_path / "webui"
    (root / "models/ESRGAN").mkdir(parents=True)
    save_file(make_upscaler().state_dict(), root / "models/ESRGAN/tiny.safetensors")
    monkeypatch.setenv("POCHADE_MODELS", str(root))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return root


@pytest.fixture
def source(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    return tmp_path / "in.png"


@pytest.mark.parametrize("place", PLACES)
def test_where_they_are_kept(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    file = tmp_path / place / "Tiny.pth"
    torch.save({"params_ema": make_upscaler().state_dict()}, file)
    assert resolve_upscaler("tiny", [tmp_path]) == resolve_upscaler("TINY.pth", [tmp_path]) == str(file)
    assert folders([tmp_path], "upscaler") == [tmp_path / place.removesuffix("/deep")]


def test_each_set_of_names_is_known_for_an_upscaler(tmp_path: Path) -> None:
    model = make_upscaler()
    for number, state in enumerate((model.state_dict(), first_names(model), trunk_names(model))):
        for prefix in ("", "params.", "params_ema."):
            file = tmp_path / f"{number}{prefix}x.safetensors"
            save_file({f"{prefix}{name}": value.contiguous() for name, value in state.items()}, file)
            assert contents_of(file).kind == "upscaler", file
    safetensors.write(tmp_path / "other.safetensors", {"body.0.weight": np.ones(1, np.float32)})
    assert contents_of(tmp_path / "other.safetensors").kind == "other"


def test_what_was_unknown_once_is_read_again(root: Path, tmp_path: Path) -> None:
    """A memory that an earlier version wrote may hold less than is known today."""
    file = root / "models/ESRGAN/tiny.safetensors"
    status, memory = file.stat(), tmp_path / "memory.json"
    memory.write_text(json.dumps({f"{file} {status.st_size} {status.st_mtime_ns}": ["other", ""]}))
    assert [contents.kind for _, contents in describe(entries([root]), memory)] == ["upscaler"]


def test_a_name_in_place_of_a_file(root: Path, source: Path, tmp_path: Path) -> None:
    by_name, by_file = tmp_path / "name.png", tmp_path / "file.png"
    file = str(root / "models/ESRGAN/tiny.safetensors")
    assert main(["upscale", str(source), str(by_name), "--upscaler", "tiny"]) == 0
    assert main(["upscale", str(source), str(by_file), "--model", file]) == 0
    with Image.open(by_name) as one, Image.open(by_file) as other:
        assert one.size == (96, 64) and one.tobytes() == other.tobytes()
    assert main(["upscale", str(source), str(tmp_path / "near.png"), "--upscaler", "nearest"]) == 0
    with Image.open(tmp_path / "near.png") as near, Image.open(source) as small:
        assert near.tobytes() == small.resize((48, 32), Image.Resampling.NEAREST).tobytes()


def test_in_a_second_pass_and_again_from_the_picture(root: Path, tmp_path: Path) -> None:
    drawing = ["draw", "a fox", "--steps", "1", "--seed", "1", "--size", "64x64"]
    larger = ["--hires", "2", "--hires-upscaler", "tiny", "--hires-strength", "0.5"]
    assert main([*drawing, *larger, "-o", str(tmp_path / "a.png")]) == 0
    assert main(["draw", "--like", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png")]) == 0
    with Image.open(tmp_path / "a.png") as one, Image.open(tmp_path / "b.png") as other:
        assert one.size == (128, 128) and one.tobytes() == other.tobytes()
        assert "Hires upscaler: tiny" in one.info["parameters"]


def test_lists_show_them(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["kind"]) == ("tiny", "upscaler")
    (root / "models/loras").mkdir()
    save_file(make_upscaler().state_dict(), root / "models/loras/astray.safetensors")
    catalogue = scan_folders(Folders(roots=(root,)))
    assert set(catalogue.upscaler_files) == {"tiny", "astray"}
    assert catalogue.upscaler("tiny") == str(root / "models/ESRGAN/tiny.safetensors")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--upscaler", "tinny"], "upscaler 'tinny' is unknown; one of: Lanczos"),
        (["--upscaler", "tinny"], "in the folders of models: tiny"),
        (["--upscaler", "Latent"], "is for latents"),
        (["--upscaler", "nowhere.pth"], "the upscaler 'nowhere.pth' is not a file"),
    ],
)
def test_names_that_nothing_has(
    root: Path,
    source: Path,
    tmp_path: Path,
    options: list[str],
    fault: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["upscale", str(source), str(tmp_path / "out.png"), *options]) == 1
    assert fault in capsys.readouterr().err and not (tmp_path / "out.png").exists()


def test_one_name_for_two_files(root: Path) -> None:
    (root / "models/loras").mkdir()
    safetensors.write(root / "models/loras/tiny.safetensors", {"lora_unet_a": np.ones(1, np.float32)})
    assert resolve_upscaler("tiny", [root]).endswith("ESRGAN/tiny.safetensors")
    (root / "models/RealESRGAN").mkdir()
    save_file(make_upscaler().state_dict(), root / "models/RealESRGAN/tiny.safetensors")
    with pytest.raises(InvalidCheckpoint, match="matches 2 models"):
        resolve_upscaler("tiny", [root])
    with pytest.raises(InvalidRequest, match="'nothing' is unknown"):
        resolve_upscaler("nothing", [])
