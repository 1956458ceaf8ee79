"""`pochade draw --like`: a picture drawn again from what its file says."""

from pathlib import Path

import pytest
from PIL import Image

from pochade.cli.main import main
from pochade.images.reading import read_text


def test_a_picture_like_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, again, other = (str(tmp_path / name) for name in ("first.png", "again.png", "other.jpg"))
    options = ["--steps", "2", "--size", "64x64", "--sampler", "Euler", "--cfg", "4"]
    assert main(["draw", "a red apple \\{a|b\\}", *options, "--seed", "7", "-o", first]) == 0
    assert main(["draw", "--like", first, "-o", again]) == 0
    assert main(["draw", "--like", again, "--seed", "8", "-o", other]) == 0
    with Image.open(first) as one, Image.open(again) as two:
        assert one.tobytes() == two.tobytes()
        text = one.info["parameters"]
        assert two.info["parameters"] == text
    with Image.open(other) as image:
        assert image.size == (64, 64)
    assert read_text(other) == text.replace("Seed: 7", "Seed: 8")


def test_nothing_to_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw"]) == 1
    assert "there is no prompt" in capsys.readouterr().err
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    assert main(["draw", "--like", str(tmp_path / "bare.png")]) == 1
    assert "carries no text" in capsys.readouterr().err
