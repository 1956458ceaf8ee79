"""`pochade models list`, `pull` and `remove`, and drawing with a model by name."""

import argparse
import json
import os
import pty
import subprocess
import sys
import time

import pytest

from pochade.cli import serve
from pochade.cli.main import main
from pochade.cli.server_options import options_of
from tests.fake_hub import COMMIT, REPO, FakeHub, serving, sizes_below, tiny_model, write_tensors
from tests.test_package import NO_NETWORK

UNET = "model.diffusion_model.input_blocks.0.0.weight"
TEXT = "cond_stage_model.transformer.text_model.a"


@pytest.fixture
def hub():
    with serving(FakeHub(tiny_model())) as served:
        yield served


@pytest.fixture
def environment(environment, tmp_path, monkeypatch, hub):
    """With folders of models that no other test sees, and the hub of this test."""
    return {**environment, "XDG_DATA_HOME": str(tmp_path / "data"), "HF_ENDPOINT": hub.address}


@pytest.fixture
def own(tmp_path):
    return tmp_path / "data" / "pochade" / "models"


def test_pull_list_and_remove(pochade, own, hub):
    done = pochade("models", "pull", REPO, "--yes")
    path = own / "diffusers" / "someone" / "tiny"
    assert (done.returncode, done.stdout) == (0, f"{path}\n"), done.stderr
    for part in (f"{REPO} at {COMMIT[:12]}", "openrail++", f"{hub.address}/{REPO}/blob", "files  11, 49 kB"):
        assert part in done.stderr
    again = pochade("models", "pull", REPO, "--yes")
    assert (again.returncode, again.stdout) == (0, f"{path}\n") and "is already installed" in again.stderr
    (row,) = json.loads(pochade("models", "list", "--json").stdout)
    size = sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    assert row == {
        "name": REPO,
        "path": str(path),
        "root": str(own),
        "kind": "model",
        "family": "SD 1.x",
        "bytes": size,
    }
    heading, line = pochade("models", "list").stdout.splitlines()
    assert heading.split() == ["name", "family", "size", "kind", "where"]
    assert line.split("  ") == [REPO, "SD 1.x", "50 kB", "model", str(path)]
    unsure = pochade("models", "remove", "tiny")
    assert unsure.returncode == 1 and "confirm with --yes" in unsure.stderr and path.exists()
    gone = pochade("models", "remove", "tiny", "--yes")
    assert (gone.returncode, gone.stdout) == (0, "removed 'tiny'; 50 kB freed\n")
    assert not path.exists() and "no models in" in pochade("models", "list").stdout


def test_a_licence_is_accepted_by_somebody(pochade, own, hub):
    done = pochade("models", "pull", REPO, stdin=subprocess.DEVNULL)
    assert done.returncode == 1 and "licence  openrail++" in done.stderr
    assert "cannot ask without a terminal; read the licence, then accept it with --yes" in done.stderr
    assert not own.exists() and hub.requests("store") == []


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("\x04", 1)])
def test_a_terminal_is_asked(environment, own, tmp_path, answer, status):
    theirs, ours = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "pochade", "models", "pull", REPO],
        cwd=tmp_path,
        env=environment,
        stdin=ours,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.write(theirs, answer.encode())
        _, said = process.communicate(timeout=60)
    os.close(theirs)
    os.close(ours)
    assert process.returncode == status and "Accept the licence and fetch it? [y/N]" in said
    assert (own / "diffusers" / "someone" / "tiny").exists() == (status == 0)
    assert "Traceback" not in said


def test_a_pull_that_was_killed_is_no_model_and_goes_on(pochade, environment, own, tmp_path, hub):
    hub.cuts = [3000, *[0] * 9]
    with subprocess.Popen(
        [sys.executable, "-m", "pochade", "models", "pull", REPO, "--yes"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.DEVNULL,
    ) as process:
        while 3000 not in sizes_below(own, "*.part"):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    (row,) = json.loads(pochade("models", "list", "--json").stdout)
    assert (row["kind"], row["name"]) == ("unfinished", f"{REPO}@{COMMIT[:12]}")
    refused = pochade("draw", "a fox", "--model", REPO)
    assert refused.returncode == 1 and f"'{REPO}' does not exist" in refused.stderr
    hub.cuts = []
    done = pochade("models", "pull", REPO, "--yes")
    assert done.returncode == 0 and "of them downloaded" in done.stderr
    requests = hub.requests("store", "text_encoder/model.safetensors")
    assert [headers.get("range") for headers in requests][-1] == "bytes=3000-"
    assert json.loads(pochade("models", "list", "--json").stdout)[0]["kind"] == "model"


def test_what_a_pull_left_can_be_removed(pochade, own, hub):
    left = own / ".pulls" / f"someone--tiny@{COMMIT[:12]}"
    left.mkdir(parents=True)
    (left / "a.part").write_bytes(b"x" * 2000)
    done = pochade("models", "remove", REPO, "--yes")
    assert done.stdout == f"removed '{REPO}'; 2 kB freed\n" and not left.exists()


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (["someone/else"], "the hub has no model 'someone/else'"),
        ([f"{REPO}@v9"], f"'{REPO}' has no revision 'v9'"),
        ([f"{REPO}@"], "names no revision"),
        (["tiny"], "is not the name of a known model"),
        ([REPO, "--variant", "fp16"], "has no variant 'fp16'"),
        ([REPO, "--file", "x.safetensors"], "has no file 'x.safetensors'"),
        ([REPO, "--file", "x", "--variant", "y"], "give --file or --variant"),
    ],
)
def test_what_cannot_be_pulled(pochade, own, order, said):
    done = pochade("models", "pull", *order, "--yes")
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr
    assert not own.exists()


def test_faults_are_sentences_and_tokens_are_never_shown(pochade, environment, hub):
    hub.gated, hub.token = True, "hf_of_someone_else"
    environment["HF_TOKEN"] = "hf_the_one_that_is_mine"
    gated = pochade("models", "pull", REPO, "--yes")
    hub.gated, hub.damaged = False, {"unet/diffusion_pytorch_model.safetensors"}
    damaged = pochade("models", "pull", REPO, "--yes")
    environment["HF_HUB_OFFLINE"] = "1"
    offline = pochade("models", "pull", REPO, "--yes")
    environment["HF_HUB_OFFLINE"] = "0"
    environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    away = pochade("models", "pull", REPO, "--yes")
    for done, said in (
        (gated, f"visit {hub.address}/{REPO}, accept its terms there"),
        (damaged, "the download was damaged and has been removed"),
        (offline, "HF_HUB_OFFLINE is set"),
        (away, "the hub cannot be reached (ConnectError)"),
    ):
        assert done.returncode == 1 and said in done.stderr
        assert "Traceback" not in done.stderr and "Warning" not in done.stderr
        assert "hf_the_one" not in done.stdout + done.stderr and "signature" not in done.stdout + done.stderr


def test_other_programs_folders_are_read_and_never_written(pochade, environment, tmp_path, own):
    theirs = tmp_path / "webui"
    path = write_tensors(theirs / "models" / "Stable-diffusion" / "sd15.safetensors", UNET, TEXT)
    write_tensors(theirs / "models" / "Lora" / "hat.safetensors", "lora_unet_a")
    rows = json.loads(pochade("models", "list", "--models", str(theirs), "--json").stdout)
    assert [(row["name"], row["kind"]) for row in rows] == [("hat", "lora"), ("sd15", "model")]
    refused = pochade("models", "remove", "sd15", "--yes", "--models", str(theirs))
    assert refused.returncode == 1 and f"'{path}' is not in a folder of Pochade's own" in refused.stderr
    into = pochade("models", "pull", REPO, "--yes", "--models", str(theirs))
    assert into.returncode == 1 and f"none of {theirs} is a folder of Pochade's own" in into.stderr
    environment["POCHADE_MODELS"] = str(theirs)
    assert pochade("models", "pull", REPO, "--yes").stdout.startswith(str(own))
    assert path.exists() and not list(theirs.rglob("*tiny*"))
    near = pochade("draw", "a fox", "--model", "sd51")
    assert near.returncode == 1 and "similar: 'sd15'" in near.stderr


def test_nothing_but_a_pull_uses_the_network(tmp_path, environment, hub, own):
    """Listing, finding by name and describing, with every socket blocked."""
    write_tensors(own / "checkpoints" / "sd15.safetensors", UNET, TEXT)
    code = f"""{NO_NETWORK}
import sys
from pochade.cli.main import main
assert main(["models", "list"]) == 0
assert main(["models", "info", "sd15"]) == 1  # it is too small a model, which is said
assert main(["models", "remove", "sd15", "--yes"]) == 0
assert "huggingface_hub" not in sys.modules
import pochade
try:
    pochade.load("someone/tiny")
except pochade.PochadeError as error:
    assert "does not exist" in str(error)
assert main(["models", "pull", "someone/tiny", "--yes"]) != 0
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "sd15" in done.stdout and hub.log == []


def test_without_the_library_a_pull_names_the_extra(environment, tmp_path):
    code = """
import sys
sys.modules["huggingface_hub"] = None
from pochade.cli.main import main
raise SystemExit(main(["models", "pull", "someone/tiny", "--yes"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1 and "pip install 'pochade[hub]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pulled_model_draws_by_its_name(pochade, whole, hub, tmp_path):
    folder = whole("SD 1.5").saved()
    hub.files = {
        each.relative_to(folder).as_posix(): each.read_bytes() for each in folder.rglob("*") if each.is_file()
    }
    assert pochade("models", "pull", REPO, "--yes").returncode == 0
    order = ("draw", "a fox", "--steps", "2", "--size", "16x16", "--model")
    done = pochade(*order, "tiny", "-o", "by-name.png")
    assert (done.returncode, done.stdout) == (0, "by-name.png\n"), done.stderr
    assert (tmp_path / "by-name.png").stat().st_size > 0


def test_what_the_list_has_read_the_server_need_not_read_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("POCHADE_CACHE", str(tmp_path / "cache"))
    write_tensors(tmp_path / "models" / "checkpoints" / "sd15.safetensors", UNET, TEXT)
    assert main(["models", "list", "--models", str(tmp_path / "models")]) == 0
    assert "sd15" in capsys.readouterr().out
    (written,) = (tmp_path / "cache").iterdir()
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    options = parser.parse_args(["serve", "--models", str(tmp_path / "models")])
    assert options_of(options, tmp_path / "data").folders.memory == written
