"""`pochade train`: from a folder of pictures to a working model, and errors for invalid input."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pochade.cli.main import main
from tests.cli.conftest import Command

FOLDERS = ("set", "run")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures with sentences about them, and a fourth that is cut off."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("one", "two", "three", "four"):
        pixels = rng.integers(0, 256, (150, 150, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"picture number {name}")
    whole = (folder / "four.png").read_bytes()
    (folder / "four.png").write_bytes(whole[: len(whole) // 2])
    return folder


def test_from_ones_own_pictures_to_a_model_that_draws(
    pochade: Command, pictures: Path, tmp_path: Path
) -> None:
    made = pochade("train", "corpus", "set", "--from", "photos")
    assert made.returncode == 0, made.stderr
    assert "four.png" in (tmp_path / "set" / "skipped.jsonl").read_text()
    options = ("--batch", "2", "--threads", "1", "--output", "mine")

    begun = pochade("train", "finetune", *FOLDERS, "--steps", "9", "--minutes", "0.0001", *options)
    assert begun.returncode == 0, begun.stderr
    assert "run the command again to resume" in begun.stdout and not (tmp_path / "mine").exists()
    done = pochade("train", "finetune", *FOLDERS, "--steps", "2", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "mine"

    drawn = pochade("draw", "picture number one", "--model", "mine", "--steps", "2", "-o", "one.png")
    assert drawn.returncode == 0, drawn.stderr
    packed = pochade("train", "pack", "run", "travel")
    files = packed.stdout.split()
    assert packed.returncode == 0 and len(files) > 1
    assert all((tmp_path / file).stat().st_size < 16e6 for file in files)


@pytest.mark.parametrize("command", [("export", *FOLDERS, "out"), ("adopt", *FOLDERS)])
def test_what_computes_nothing_takes_no_device(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["train", *command, "--device", "cuda"])
    assert "unrecognized arguments: --device cuda" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("text", *FOLDERS), "'set' is not a training set"),
        (("text", *FOLDERS, "--steps", "0"), "--steps is 0; it must be at least 1"),
        (("diffusion", *FOLDERS, "--threads", "-2"), "--threads is -2; it must lie between 1 and 1024"),
        (("diffusion", *FOLDERS, "--minutes", "-1"), "--minutes is -1; it must be a number above 0"),
        (("export", *FOLDERS, "out"), "'set' is not a training set"),
        (
            ("finetune", *FOLDERS, "--output", "out", "--rate", "nan"),
            "--rate is nan; it must be a number above 0",
        ),
        (("pack", "run", "out"), "'run"),
        (("controlnet", *FOLDERS, "--output", "out"), "'set' does not exist"),
        (("controlnet", *FOLDERS, "--output", "out", "--condition", "depth"), "preprocessor 'depth'"),
        (
            ("controlnet", *FOLDERS, "--output", "out", "--rate", "0"),
            "--rate is 0; it must be a number above 0",
        ),
        (("embedding", *FOLDERS, "--output", "out", "--token", "a/b", "--initial", "x"), "token 'a/b'"),
        (
            ("embedding", *FOLDERS, "--output", "out", "--token", "ab", "--initial", "x"),
            "'set' is not a folder",
        ),
    ],
)
def test_failures_are_sentences(
    arguments: tuple[str, ...], words: str, pochade: Command, tmp_path: Path
) -> None:
    done = pochade("train", *arguments)
    assert done.returncode == 1
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("stage", "usual"),
    [("text", "that of the starter's training"), ("finetune", "4"), ("controlnet", "4"), ("embedding", "4")],
)
def test_the_help_says_how_many_pictures_at_a_time(
    stage: str, usual: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["train", stage, "--help"])
    assert f"pictures at a time (default: {usual})" in " ".join(capsys.readouterr().out.split())
