"""`pochade draw --control`."""

from pathlib import Path

import pytest
from PIL import Image

from pochade.cli.main import main

DRAW = ["draw", "a red apple", "--steps", "2", "--seed", "1", "--size", "64x64"]


@pytest.fixture
def sketch(tmp_path: Path) -> Path:
    image = Image.new("RGB", (64, 64), "white")
    image.paste("black", (20, 20, 40, 44))
    image.save(tmp_path / "sketch.png")
    return tmp_path / "sketch.png"


def drawn(tmp_path: Path, *options: object) -> Image.Image:
    output = tmp_path / "out.png"
    output.unlink(missing_ok=True)
    assert main([*DRAW, "-o", str(output), *map(str, options)]) == 0
    with Image.open(output) as image:
        image.load()
        return image


def test_along_a_sketch(tmp_path: Path, sketch: Path, control_model: Path) -> None:
    given = ("--control", sketch, "--control-model", control_model, "--preprocessor", "canny")
    image = drawn(tmp_path, *given, "--control-strength", 0.7, "--control-end", 0.5)
    assert image.tobytes() != drawn(tmp_path).tobytes()
    text = image.info["parameters"]
    assert 'ControlNet 0: "Module: canny' in text and "Weight: 0.7" in text and "Guidance End: 0.5" in text


def test_two_sketches_and_one_model(tmp_path: Path, sketch: Path, control_model: Path) -> None:
    both = ("--control", sketch, "--control", sketch, "--control-model", control_model)
    text = drawn(tmp_path, *both, "--preprocessor", "canny", "--preprocessor", "invert").info["parameters"]
    assert 'ControlNet 0: "Module: canny' in text and 'ControlNet 1: "Module: invert' in text


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--control", "IN"], "--control needs a ControlNet: give its file or folder as --control-model"),
        (["--control-strength", "1"], "--control-strength needs a picture: give it as --control"),
        (["--control", "nowhere.png", "--control-model", "x"], "'nowhere.png' cannot be read"),
        (["--control", "IN", "--control-model", "x"], "the ControlNet 'x' does not exist"),
        (["--control", "IN", "--control-model", "x", "--control-strength", "9"], "is 9.0; it must lie"),
        (["--control", "IN", "--control-model", "x", "--preprocessor", "magic"], "'magic' is unknown"),
        (["--control", "IN", "--control-model", "x", "--control-model", "y"], "2 times for 1 pictures"),
    ],
)
def test_what_makes_no_sense(
    sketch: Path, options: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*DRAW, *(str(sketch) if option == "IN" else option for option in options)]) == 1
    assert fault in capsys.readouterr().err


def test_a_picture_again_asks_for_the_control(
    tmp_path: Path, sketch: Path, control_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--control", sketch, "--control-model", control_model)
    first = drawn(tmp_path, *given)
    (tmp_path / "out.png").rename(tmp_path / "first.png")
    like = ["draw", "--like", str(tmp_path / "first.png"), "-o", str(tmp_path / "out.png")]
    assert main(like) == 0
    assert "was drawn with a ControlNet; give its picture as --control" in capsys.readouterr().err
    (tmp_path / "out.png").unlink()
    assert main([*like, *map(str, given)]) == 0
    assert "ControlNet" not in capsys.readouterr().err
    with Image.open(tmp_path / "out.png") as again:
        assert again.convert("RGB").tobytes() == first.tobytes()
