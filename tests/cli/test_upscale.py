"""`pochade upscale`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from pochade.cli.main import main
from pochade.images.files import save_picture
from tests.upscalers import make_upscaler

TEXT = "a fox\nSteps: 2, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 24x16"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    save_picture(Image.fromarray(pixels), tmp_path / "in.png", TEXT)
    return tmp_path / "in.png"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_file(make_upscaler().state_dict(), tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def test_by_lanczos(source: Path, tmp_path: Path) -> None:
    assert main(["upscale", str(source), str(tmp_path / "out.png"), "--scale", "1.5"]) == 0
    with Image.open(tmp_path / "out.png") as image, Image.open(source) as small:
        assert image.tobytes() == small.resize((36, 24), Image.Resampling.LANCZOS).tobytes()
        assert image.info["parameters"].startswith(TEXT)
        assert "Postprocess upscale by: 1.5, Postprocess upscaler: Lanczos" in image.info["parameters"]


@pytest.mark.parametrize(("options", "size"), [([], (96, 64)), (["--scale", "2"], (48, 32))])
def test_by_a_model(source: Path, model: Path, tmp_path: Path, options: list[str], size: tuple) -> None:
    out = tmp_path / "out.jpg"
    assert main(["upscale", str(source), str(out), "--model", str(model), *options]) == 0
    with Image.open(out) as image:
        assert image.size == size


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["nowhere.png", "out.png"], "'nowhere.png' cannot be read"),
        (["IN", "out.gif"], ".gif"),
        (["IN", "out.png", "--scale", "0.5"], "--scale is 0.5"),
        (["IN", "out.png", "--model", "nowhere.pth"], "the upscaler 'nowhere.pth' is not a file"),
    ],
)
def test_what_makes_no_sense(
    source: Path, options: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["upscale", *(str(source) if option == "IN" else option for option in options)]) == 1
    assert fault in capsys.readouterr().err
