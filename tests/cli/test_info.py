"""`pochade info`: the metadata of pictures."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from pochade.cli.main import BROKEN_PIPE, main
from pochade.images.files import save_picture
from pochade.images.marks import GENERATED

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


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    pytest.importorskip("c2pa", reason="the extra c2pa is not installed")
    from pochade.images.signing import new_identity, signer

    sign = signer(new_identity(datetime.now(UTC)), "0.1.0")
    save_picture(Image.new("RGB", (64, 64)), tmp_path / "signed.webp", TEXT, sign=sign)
    return tmp_path / "signed.webp"


def test_who_signed_a_picture(signed: Path, fox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(signed)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "  signature: valid, by pictures" and "  prompt: a red fox" in lines
    assert main(["info", str(fox)]) == 0
    assert "signature" not in capsys.readouterr().out
    content = signed.read_bytes()
    signed.write_bytes(content.replace("fox".encode("utf-16-be"), "cat".encode("utf-16-be")))
    assert main(["info", "--json", str(signed)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["prompt"] == "a red cat" and told["signature"]["state"] == "Invalid"
    assert told["signature"]["source_type"].endswith(GENERATED)


def test_without_the_package_no_signature_is_seen(
    signed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pochade.images.signing.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "c2pa", None)  # importing it fails
    assert main(["info", str(signed), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["signature"], told["mark"]) == (None, GENERATED)


def test_a_mark_alone_is_something_to_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_picture(Image.new("RGB", (8, 8)), tmp_path / "bare.png")
    assert main(["info", str(tmp_path / "bare.png")]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [f"  digital source type: {GENERATED}"]


def test_a_picture_that_tells_nothing_is_named(
    fox: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    assert main(["info", str(tmp_path / "bare.png"), str(tmp_path / "absent.png"), str(fox)]) == 1
    captured = capsys.readouterr()
    assert "bare.png' contains no parameters text" in captured.err
    assert "absent.png' cannot be read: No such file" in captured.err
    assert "a red fox" in captured.out


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_read_enough(fox: Path, unbuffered: str) -> None:
    """As `pochade info FILE | head -1`: no complaint."""
    command = [sys.executable, "-m", "pochade", "info", str(fox)]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == BROKEN_PIPE
