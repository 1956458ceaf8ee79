"""`pochade models`: output, written files and errors."""

import hashlib

import pytest
import torch

from pochade.checkpoints.read import read_checkpoint
from tests.checkpoints.test_single_file import assert_same
from tests.single_files import ldm_state, save, without


@pytest.fixture
def made(whole):
    return whole("SD 1.5")


def test_info(pochade, made):
    path = made.file()
    done = pochade("models", "info", str(path))
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for part in (
        "name  model",
        "family  SD 1.x",
        "draws  256x256",
        "predicts  epsilon: the default of SD 1.x",
        f"hash  {digest[:10]}  {path}",
        "float32",
        "in bf16 or f16, for the weights alone",
    ):
        assert part in done.stdout
    assert (
        "predicts  v_prediction: as requested"
        in pochade("models", "info", str(path), "--prediction", "v").stdout
    )


def test_verify(pochade, made, tmp_path):
    path = made.file()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    done = pochade("models", "verify", str(path), "--sha256", digest[:10].upper())
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{digest}  {path}" in done.stdout and "all finite" in done.stdout
    wrong = pochade("models", "verify", str(path), "--sha256", "0123456789")
    assert wrong.returncode == 1 and f"has the SHA-256 {digest}, not 0123456789..." in wrong.stderr
    unclear = pochade("models", "verify", str(path), "--sha256", "abc")
    assert unclear.returncode == 1 and "'abc' is not a hash: give 8 to 64" in unclear.stderr
    state = ldm_state(made.theirs)
    state["model.diffusion_model.out.2.bias"][0] = torch.inf
    broken = pochade("models", "verify", str(save(state, tmp_path / "broken.safetensors")))
    assert broken.returncode == 1 and "tensor 'conv_out.bias' in" in broken.stderr
    assert "Traceback" not in broken.stderr


def test_convert(pochade, made, tmp_path):
    source = made.folder / "model.ckpt"
    torch.save({"state_dict": ldm_state(made.theirs)}, source)
    done = pochade("models", "convert", str(source), "out.safetensors", "--precision", "f16")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out.safetensors\n", "")
    assert_same(read_checkpoint(tmp_path / "out.safetensors"), made.theirs, torch.float16)
    done = pochade("models", "convert", "out.safetensors", "folder")
    assert (done.returncode, done.stdout) == (0, "folder\n")
    assert_same(read_checkpoint(tmp_path / "folder"), made.theirs, torch.float16)
    again = pochade("models", "convert", "out.safetensors", "folder")
    assert again.returncode == 1 and "'folder' exists and is not replaced" in again.stderr


def test_draw_with_an_autoencoder_from_elsewhere(pochade, made, tmp_path):
    made.file(without("first_stage_model."), name="bare.safetensors")
    order = (
        "draw",
        "a fox",
        "--model",
        str(made.folder / "bare.safetensors"),
        "--steps",
        "2",
        "--size",
        "16x16",
    )
    alone = pochade(*order)
    assert alone.returncode == 1 and "--vae PATH" in alone.stderr
    done = pochade(*order, "--vae", str(made.file()), "--prediction", "epsilon", "-o", "fox.png")
    assert (done.returncode, done.stdout) == (0, "fox.png\n"), done.stderr
    assert (tmp_path / "fox.png").exists()


def test_the_starter_by_its_name(pochade):
    done = pochade("models", "info", "starter")
    assert done.returncode == 0 and "predicts  v_prediction: as in scheduler_config.json" in done.stdout


def test_a_pickle_that_attacks(pochade, tmp_path):
    (tmp_path / "evil.ckpt").write_bytes(b"\x80\x02cos\nsystem\nX\x0a\x00\x00\x00touch here\x85R.")
    done = pochade("models", "info", "evil.ckpt")
    assert done.returncode == 1 and "it imports 'os.system'" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "here").exists()


def test_help_names_the_actions(pochade):
    done = pochade("models", "--help")
    assert all(action in done.stdout for action in ("info", "verify", "convert"))
    assert pochade("models").returncode == 2
