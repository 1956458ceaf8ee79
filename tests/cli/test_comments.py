"""`pochade draw --comments`."""

from pathlib import Path

from pochade.cli.main import main
from pochade.images.metadata import read_parameters
from pochade.images.reading import read_text


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
