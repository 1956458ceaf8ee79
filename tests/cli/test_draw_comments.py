"""`pochade draw --comments`."""

from pathlib import Path

import pytest

from pochade.cli.main import main
from pochade.images.embedded_text import read_text
from pochade.images.metadata import read_parameters


def test_comments_by_choice(tmp_path: Path) -> None:
    plain = ["draw", "a fox # in snow", "--negative", "grey # blue", "--steps", "1", "--size", "64x64"]
    for options, prompt, negative in (
        ([], "a fox # in snow", "grey # blue"),
        (["--comments"], "a fox", "grey"),
    ):
        path = tmp_path / f"{len(options)}.png"
        assert main([*plain, *options, "-o", str(path)]) == 0
        parameters = read_parameters(read_text(path))
        assert (parameters.prompt.strip(), parameters.negative_prompt.strip()) == (prompt, negative)


def test_comments_of_the_second_pass(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    second = ["--hires", "1.5", "--hires-prompt", "an owl # by day", "--hires-steps", "1"]
    plain = ["draw", "a fox # in snow", "--steps", "1", "--size", "64x64", "--comments"]
    assert main([*plain, *second, "-o", str(path)]) == 0
    assert read_parameters(read_text(path)).values["Hires prompt"].strip() == "an owl"


def test_comments_need_a_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.png"
    assert main(["draw", "a fox", "--steps", "1", "--size", "64x64", "-o", str(path)]) == 0
    assert main(["draw", "--like", str(path), "--comments"]) != 0
    assert "--comments needs a prompt" in capsys.readouterr().err
