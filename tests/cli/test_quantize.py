"""`pochade models quantize`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pochade.quantization.files import load
from pochade.settings import starter_folder


def test_grids_are_written_and_their_errors_are_told(pochade, tmp_path: Path):
    (tmp_path / "prompts.txt").write_text("a red fox\n\n  a blue house \n")
    done = pochade(
        "models", "quantize", "starter", "--prompts", "prompts.txt", "-o", "grids.safetensors", "--worst", "3"
    )
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert last == "grids.safetensors"
    tables = load(tmp_path / "grids.safetensors").tables
    assert set(tables) == {"unet", "vae"}
    assert lines[0].startswith(f"unet: {len(tables['unet'])} products, 0 of them not quantized")
    assert len(lines) == 2 * (1 + 3)
    shown = float(lines[1].split("%")[0]) / 100
    assert shown == pytest.approx(max(each.error for each in tables["unet"].values()), abs=1e-4)


@pytest.mark.parametrize(
    ("text", "complaint"), [("\n  \n", "contains no prompt"), (b"\xff\xfe\xff", "cannot be read")]
)
def test_prompts_that_are_none_are_refused(pochade, tmp_path: Path, text, complaint):
    (tmp_path / "prompts.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    done = pochade("models", "quantize", "starter", "--prompts", "prompts.txt")
    assert done.returncode != 0
    assert complaint in done.stderr and "Traceback" not in done.stderr


def test_a_folder_that_is_not_there_is_found_before_the_work(pochade):
    done = pochade("models", "quantize", "starter", "-o", "nowhere/grids.safetensors")
    assert done.returncode != 0
    assert "nowhere" in done.stderr and "Traceback" not in done.stderr


def test_drawing_in_8_bits(pochade, tmp_path: Path):
    done = pochade("draw", "a red apple", "--precision", "int8", "--steps", "2", "-o", "apple.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "apple.png").is_file()
    assert (starter_folder() / "int8.safetensors").is_file()


def test_the_doctor_says_what_bytes_are_good_for(pochade):
    done = pochade("doctor", "--precision", "int8")
    assert done.returncode == 0, done.stderr
    assert "--precision int8" in done.stdout and "openvino on cpu in int8" in done.stdout


def test_a_file_of_something_else_is_not_replaced(pochade, tmp_path: Path):
    weights = tmp_path / "weights.safetensors"
    shutil.copy(starter_folder() / "vae" / "diffusion_pytorch_model.safetensors", weights)
    before = weights.read_bytes()
    for target in (weights, tmp_path):
        done = pochade("models", "quantize", "starter", "-o", str(target))
        assert done.returncode == 1 and "no 8-bit grids; choose another name" in done.stderr
    assert weights.read_bytes() == before


def test_a_cache_that_cannot_be_written_to_is_found_before_the_work(environment, tmp_path: Path):
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "pochade", "models", "quantize", "starter"],
        env={**environment, "POCHADE_CACHE": str(tmp_path / "file" / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "could not be written" in done.stderr
