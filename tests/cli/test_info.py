"""`pochade info`: what a picture says of itself."""

import json
from pathlib import Path

import pytest
from PIL import Image

from pochade.cli.main import main
from pochade.images.files import save_picture

TEXT = "a red fox\nNegative prompt: snow\nSteps: 4, Sampler: Euler, CFG scale: 5, Seed: 3, Size: 64x64"


@pytest.fixture
def fox(tmp_path: Path) -> Path:
    save_picture(Image.new("RGB", (64, 64)), tmp_path / "fox.jpg", TEXT)
    return tmp_path / "fox.jpg"


def test_a_picture_tells_how_it_was_made(fox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(fox)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == ["  prompt: a red fox", "  negative prompt: snow", "  Steps: 4"]


def test_for_programs(fox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json", str(fox)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["prompt"] == "a red fox"
    assert told["values"]["Seed"] == "3"


def test_a_picture_that_tells_nothing_is_named(
    fox: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    assert main(["info", str(tmp_path / "bare.png"), str(tmp_path / "absent.png"), str(fox)]) == 1
    captured = capsys.readouterr()
    assert "bare.png' carries no text" in captured.err
    assert "absent.png' cannot be read: No such file" in captured.err
    assert "a red fox" in captured.out
