"""Marks and signatures in files that the command line writes."""

from pathlib import Path

import pytest
from PIL import Image

from pochade.images.embedded_text import mark_of, text_of
from pochade.images.marks import EDITED, GENERATED
from tests.cli.conftest import Command


def test_the_mark_is_there_unless_it_is_left_out(pochade: Command, tmp_path: Path) -> None:
    Image.new("RGB", (128, 128), "orange").save(tmp_path / "in.png")
    plain = ("--steps", "1", "--seed", "1")
    assert pochade("draw", "a fox", *plain, "-o", "a.jpg").returncode == 0
    assert pochade("draw", "a fox", *plain, "-o", "b.png", "--no-mark").returncode == 0
    assert pochade("draw", "a fox", *plain, "-o", "c.webp", "--init", "in.png").returncode == 0
    marks = [mark_of((tmp_path / name).read_bytes()) for name in ("a.jpg", "b.png", "c.webp")]
    assert marks == [GENERATED, None, EDITED]
    assert all(text_of((tmp_path / name).read_bytes()) for name in ("a.jpg", "b.png", "c.webp"))
    assert GENERATED in pochade("info", "a.jpg").stdout
    # A larger picture keeps the mark of the one that it was made of; a photograph gets none.
    assert pochade("upscale", "a.jpg", "d.png").returncode == 0
    assert pochade("upscale", "in.png", "e.png").returncode == 0
    assert [mark_of((tmp_path / name).read_bytes()) for name in ("d.png", "e.png")] == [GENERATED, None]


def test_a_signed_file_holds_what_it_says(
    pochade: Command, tmp_path: Path, environment: dict[str, str]
) -> None:
    pytest.importorskip("c2pa", reason="the extra c2pa is not installed")
    from pochade.images.signing import read_signature

    done = pochade("draw", "a fox", "--steps", "1", "--seed", "1", "--sign", "-o", "a.png")
    assert done.returncode == 0, done.stderr
    content = (tmp_path / "a.png").read_bytes()
    signature = read_signature(content, "PNG")
    assert signature is not None
    assert (signature.state, signature.source_type.rpartition("/")[2]) == ("Valid", GENERATED)
    assert text_of(content).startswith("a fox\nSteps: 1,")
    key = Path(environment["XDG_DATA_HOME"]) / "pochade" / "signing.pem"
    assert key.stat().st_mode & 0o077 == 0
    key.write_text("nothing")
    done = pochade("draw", "a fox", "--steps", "1", "--sign", "-o", "b.png")
    key.unlink()
    assert done.returncode == 1
    assert "signing.pem' holds 0 private keys" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "b.png").exists()
