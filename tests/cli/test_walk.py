"""`pochade walk`: a folder of frames and an animation."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from pochade.cli.main import main
from pochade.images.embedded_text import mark_of, read_text
from pochade.images.marks import EDITED, GENERATED

WALK = ["walk", "a red apple", "a green pear", "--steps", "1", "--size", "64x64", "--frames", "3"]


@pytest.mark.parametrize("suffix", ["webp", "gif"])
def test_frames_and_animation(tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"fruit.{suffix}"
    command = [*WALK, "--seed", "3", "--fps", "5", "-o", str(path)]
    assert main(command) == 0
    frames = [tmp_path / "fruit" / f"00{i}.png" for i in (1, 2, 3)]
    assert capsys.readouterr().out.split() == [*map(str, frames), str(path)]
    assert "Blend prompt: a green pear, Blend share: 0.5" in read_text(frames[1])
    with Image.open(path) as animation:
        shown = [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(animation)]
        assert animation.info["duration"] == 200 and animation.info["loop"] == 0
    for frame, picture in zip(shown, frames, strict=True):
        assert abs(frame - np.asarray(Image.open(picture))).mean() < 6
    if suffix == "webp":
        assert read_text(path) == read_text(frames[0])
    assert main(command) == 0  # nothing is overwritten
    assert (tmp_path / f"fruit-2.{suffix}").exists() and (tmp_path / "fruit-2" / "003.png").exists()


def test_seeds_and_templates(tmp_path: Path) -> None:
    path = tmp_path / "walk.webp"
    common = ["walk", "a {red} apple", "--steps", "1", "--size", "64x64", "-o", str(path)]
    assert main([*common, "--frames", "4", "--seeds", "3,4", "--loop"]) == 0
    texts = [read_text(tmp_path / "walk" / f"00{i}.png") for i in (1, 2, 3, 4)]
    assert texts[0].startswith("a red apple\n") and "Seed: 3," in texts[0] and "Seed: 4," in texts[2]
    assert "Variation seed: 4, Variation seed strength: 0.5" in texts[1]
    assert "Variation seed: 3, Variation seed strength: 0.5" in texts[3]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--frames", "1"], "frames is 1; it must lie between 2 and 1000"),
        (["--seeds", "1,2,3"], "--seeds names 3 seeds for 2 prompts"),
        (["--seeds", "1,x"], "seeds are whole numbers"),
        (["--seeds", "1,2", "--seed", "1"], "use one of them"),
        (["--fps", "0"], "--fps is 0.0"),
        (["-o", "fruit.png"], "an animation's name ends in .webp or .gif"),
    ],
)
def test_what_makes_no_sense(
    tmp_path: Path, options: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [str(tmp_path / option) if option.endswith(".png") else option for option in options]
    assert main([*WALK, "-o", str(tmp_path / "fruit.webp"), *options]) == 1
    assert fault in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_one_prompt_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["walk", "a fox", "-o", str(tmp_path / "fox.webp")]) == 1
    assert "a walk needs at least two prompts or two seeds" in capsys.readouterr().err


def marks(tmp_path: Path, *options: str) -> list[str | None]:
    """Of two frames and of the animation."""
    path = tmp_path / "fruit.webp"
    assert main([*WALK, "--seed", "3", *options, "--frames", "2", "-o", str(path)]) == 0
    files = [tmp_path / "fruit" / "001.png", tmp_path / "fruit" / "002.png", path]
    return [mark_of(file.read_bytes()) for file in files]


def test_frames_and_animation_say_that_a_model_made_them(tmp_path: Path) -> None:
    assert marks(tmp_path) == [GENERATED] * 3


def test_what_is_drawn_over_a_picture_says_so(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "orange").save(tmp_path / "in.png")
    assert marks(tmp_path, "--init", str(tmp_path / "in.png")) == [EDITED] * 3


def test_the_mark_can_be_left_out(tmp_path: Path) -> None:
    assert marks(tmp_path, "--no-mark") == [None] * 3


@pytest.mark.parametrize("suffix", ["webp", "gif"])
def test_frames_and_animation_are_signed_if_asked(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("c2pa", reason="the extra c2pa is not installed")
    from pochade.images.signing import read_signature

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    path = tmp_path / f"fruit.{suffix}"
    assert main([*WALK, "--seed", "3", "--sign", "--frames", "2", "-o", str(path)]) == 0
    for file, kind in ((tmp_path / "fruit" / "002.png", "PNG"), (path, suffix.upper())):
        signature = read_signature(file.read_bytes(), kind)
        assert signature is not None and signature.state == "Valid", file
        assert signature.source_type.rpartition("/")[2] == GENERATED


@pytest.mark.parametrize("option", [["--count", "3"], ["--preview"], ["-v"]])
def test_options_that_would_change_nothing_are_none(
    tmp_path: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*WALK, "-o", str(tmp_path / "fruit.webp"), *option])
    assert f"unrecognized arguments: {option[0]}" in capsys.readouterr().err
