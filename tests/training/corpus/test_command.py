"""`pochade train corpus`: its options, what it prints, and how it fails."""

import argparse
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pochade.cli import corpus as command
from pochade.errors import InvalidRequest

RUN = """
import argparse, sys
from pochade.cli import corpus
from pochade.errors import PochadeError
parser = argparse.ArgumentParser()
corpus.add_parser(parser.add_subparsers(required=True))
options = parser.parse_args()
try:
    sys.exit(options.run(options))
except PochadeError as error:
    sys.exit(f"pochade: error: {error}")
"""


def run(*arguments: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", RUN, "corpus", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    stream = io.BytesIO()
    Image.new("RGB", (900, 600), "red").save(stream, "JPEG")
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(stream.getvalue())
    (folder / "0.txt").write_text("a red wall")
    (folder / "1.txt").write_text("another red wall")
    return folder


def test_pictures_of_ones_own(photos: Path, tmp_path: Path) -> None:
    done = run("set", "--from", photos, "--jobs", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "2 pictures in set",
        "  photos: 2 pictures, 0 of them held out; 1 skipped",
        "    1 x no caption",
        f"skipped pictures: {Path('set', 'skipped.jsonl')}",
        f"contact sheet: {Path('set', 'contact-sheet.png')}",
    ]
    assert "photos: 100%" in done.stderr and "3/3" in done.stderr  # the bar
    with Image.open(tmp_path / "set" / "contact-sheet.png") as sheet:
        assert sheet.size == (12 * 128, 128 + 16)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from", "absent"], "'absent' does not exist"),
        (["--from", "empty"], "contains no pictures (it is empty)"),
        (["--from", "photos", "--size", "1"], "size 1 px"),
        (["--from", "photos", "--held-out", "2"], "held-out share 2.0"),
        (["--from", "photos", "--jobs", "0"], "jobs is 0"),
        (["--held-out", "0.1"], "--held-out applies to your own pictures"),
    ],
)
def test_failures_are_sentences(arguments: list[str], words: str, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run("set", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_in_the_way_is_told(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "set").write_text("a file")
    done = run("set", "--from", photos, cwd=tmp_path)
    assert done.returncode == 1
    assert "'set' could not be written" in done.stderr and "Traceback" not in done.stderr


def test_the_packages_need_no_option() -> None:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers(required=True))
    options = parser.parse_args(["corpus", "out"])
    assert (options.corpus, options.sources, options.size, options.held_out) == (
        Path("out"),
        None,
        None,
        None,
    )
    assert options.jobs == (os.cpu_count() or 1)
    options = parser.parse_args(["corpus", "out", "--from", "a", "b", "--from", "c", "--held-out", "0.1"])
    assert options.sources == [Path("a"), Path("b"), Path("c")]
    options.sources = None
    with pytest.raises(InvalidRequest):
        options.run(options)
