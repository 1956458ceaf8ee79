"""Known models by short name: pulling, the offer of `pochade draw`, drawing, and errors."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from pochade.hub.known_models import KNOWN_MODELS, known
from tests.fake_hub import FakeHub, serving, sizes_below, tiny_model

NAME = "lcm-dreamshaper"
DRAW = ("draw", "a fox", "--steps", "2", "--size", "16x16", "-o", "fox.png", "--model")
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def hub():
    with serving(FakeHub(tiny_model(), repo=known(NAME).repo)) as served:
        yield served


@pytest.fixture
def environment(environment, tmp_path, hub):
    """With folders of models that no other test sees, and the hub of this test."""
    return {**environment, "XDG_DATA_HOME": str(tmp_path / "data"), "HF_ENDPOINT": hub.address}


@pytest.fixture
def own(tmp_path):
    return tmp_path / "data" / "pochade" / "models"


@pytest.fixture
def drawable(whole, hub):
    """The hub has a small model that can be drawn with."""
    folder = whole("SD 1.5").saved()
    files = [each for each in folder.rglob("*") if each.is_file()]
    hub.files = {each.relative_to(folder).as_posix(): each.read_bytes() for each in files}


def at_a_terminal(environment, tmp_path, *arguments, answers):
    """Run the command with its input, output and errors on a terminal where somebody types; status, text."""
    theirs, ours = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "pochade", *arguments],
        cwd=tmp_path,
        env=environment,
        stdin=ours,
        stdout=ours,
        stderr=ours,
    ) as process:
        os.close(ours)
        os.write(theirs, answers.encode())
        said = b""
        while True:
            try:
                said += os.read(theirs, 10_000)
            except OSError:  # what Linux says once nobody holds the other end
                break
        process.wait(timeout=60)
    os.close(theirs)
    return process.returncode, said.decode()


def test_from_the_short_name_to_a_picture(pochade, own, hub, drawable, tmp_path):
    done = pochade("models", "pull", NAME, "--yes")
    path = own / "diffusers" / NAME
    assert (done.returncode, done.stdout) == (0, f"{path}\n"), done.stderr
    assert f"model  {known(NAME).repo} at" in done.stderr and "openrail++" in done.stderr
    drawn = pochade(*DRAW, NAME)
    assert (drawn.returncode, drawn.stdout) == (0, "fox.png\n"), drawn.stderr
    assert (tmp_path / "fox.png").stat().st_size > 0
    asked = len(hub.log)
    again = pochade("models", "pull", NAME.upper(), "--yes")
    assert (again.returncode, again.stdout) == (0, f"{path}\n") and "is already installed" in again.stderr
    assert len(hub.log) == asked  # what is here needs no hub
    assert pochade("models", "verify", NAME).returncode == 0
    assert pochade("models", "remove", NAME, "--yes").returncode == 0 and not path.exists()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("scheduler/scheduler_config.json", lambda content: content + b"\n"),
        (UNET, lambda content: content[:-4] + b"\0\0\0\0"),
    ],
)
def test_a_file_that_has_changed_since_it_was_pulled_is_found(pochade, own, drawable, name, change):
    assert pochade("models", "pull", NAME, "--yes").returncode == 0
    file = own / "diffusers" / NAME / name
    file.write_bytes(change(file.read_bytes()))
    done = pochade("models", "verify", NAME)
    assert done.returncode == 1 and f"'{file}' has changed since it was pulled" in done.stderr


def test_the_list_of_known_models_says_all_of_them_and_asks_nobody(pochade, hub):
    said = pochade("models", "known").stdout
    rows = json.loads(pochade("models", "known", "--json").stdout)
    assert [row["name"] for row in rows] == [model.name for model in KNOWN_MODELS]
    for model in KNOWN_MODELS:
        assert f"\n{model.name}  {model.title}\n" in "\n" + said and model.page in said
        assert (model.licence or "unconfirmed") in said
    assert "about 2.1 GB" in said and "1.3 GB in int8, 2.1 GB in bf16, computed" in said and hub.log == []


def test_without_a_terminal_drawing_says_the_command_and_asks_nobody(pochade, hub, own, tmp_path):
    for arguments in (
        (*DRAW, "sd15"),
        (*DRAW, "SD15"),
        ("plot", "a fox", "--x", "steps=1,2", "--model", "sd15"),
        ("bench", "--model", "sd15"),
    ):
        done = pochade(*arguments, stdin=subprocess.DEVNULL)
        assert done.returncode == 1
        assert (
            "'sd15' (Stable Diffusion 1.5) is not on this computer; fetch it with 'pochade models pull sd15'"
            " (about 2.1 GB; licence: creativeml-openrail-m)"
        ) in done.stderr
    beside = pochade(*DRAW[:-1], "--vae", "taesd", "--models", "here", stdin=subprocess.DEVNULL)
    assert "'pochade models pull taesd --models here'" in beside.stderr
    assert hub.log == [] and not own.exists() and not (tmp_path / "fox.png").exists()


def test_at_a_terminal_drawing_offers_to_fetch_it(environment, hub, own, drawable, tmp_path):
    status, said = at_a_terminal(environment, tmp_path, *DRAW, NAME, answers="y\ny\n")
    assert status == 0 and (tmp_path / "fox.png").exists() and (own / "diffusers" / NAME).is_dir(), said
    assert "Ask the hub for it (about 4.3 GB" in said and "Accept the licence and fetch it? [y/N]" in said


def test_a_first_no_asks_the_hub_nothing(environment, hub, own, tmp_path):
    status, said = at_a_terminal(environment, tmp_path, *DRAW, NAME, answers="n\n")
    assert status == 1 and f"'{NAME}' was not fetched; 'pochade models pull {NAME}' fetches it later" in said
    assert hub.log == [] and not own.exists()


@pytest.mark.parametrize("command", [("models", "pull", NAME), (*DRAW, NAME)])
def test_a_declined_licence_fetches_nothing(environment, hub, own, tmp_path, command):
    answers = "n\n" if command[0] == "models" else "y\nn\n"
    status, said = at_a_terminal(environment, tmp_path, *command, answers=answers)
    assert status == 1 and "the licence was not accepted, so nothing was fetched" in said
    assert hub.requests("store") == [] and not own.exists() and "Traceback" not in said


def test_no_network(pochade, environment, own):
    environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    away = pochade("models", "pull", NAME, "--yes")
    environment["HF_HUB_OFFLINE"] = "1"
    offline = pochade("models", "pull", NAME, "--yes")
    assert (away.returncode, offline.returncode) == (1, 1) and not own.exists()
    assert "the hub cannot be reached (ConnectError); check the connection" in away.stderr
    assert "HF_HUB_OFFLINE is set, so nothing is downloaded" in offline.stderr
    assert "Traceback" not in away.stderr + offline.stderr


def test_another_file_than_the_catalogue_knows(pochade, hub, own):
    model = known("sd15")
    hub.repo, hub.files = model.repo, {model.file: b"another" * 100}
    done = pochade("models", "pull", "sd15", "--yes")
    assert done.returncode == 1 and "the hub states another hash for" in done.stderr
    assert "nothing is downloaded" in done.stderr and hub.requests("store") == [] and not own.exists()


def test_bytes_that_do_not_have_the_stated_hash(pochade, hub, own):
    hub.damaged = {UNET}
    done = pochade("models", "pull", NAME, "--yes")
    assert done.returncode == 1 and "the download was damaged and has been removed" in done.stderr
    assert not (own / "diffusers").exists()
    hub.damaged = set()
    assert pochade("models", "pull", NAME, "--yes").returncode == 0


def test_a_broken_download_is_kept_and_gone_on_with(pochade, environment, hub, own, tmp_path):
    hub.cuts = [3000, *[0] * 9]
    with subprocess.Popen(
        [sys.executable, "-m", "pochade", "models", "pull", NAME, "--yes"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # in the background it is ignored
    ) as process:
        while 3000 not in sizes_below(own, "*.part"):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said.endswith("pochade: stopped\n"), said
    hub.cuts = []
    done = pochade("models", "pull", NAME, "--yes")
    assert done.returncode == 0 and "of them downloaded" in done.stderr
    ranges = [headers.get("range") for headers in hub.requests("store", "text_encoder/model.safetensors")]
    assert ranges[-1] == "bytes=3000-"


def test_a_full_disk_is_said_before_anything_is_fetched(environment, hub, own, tmp_path):
    code = f"""
import collections, shutil
shutil.disk_usage = lambda path: collections.namedtuple("usage", "total used free")(1, 1, 5000)
from pochade.cli.main import main
raise SystemExit(main(["models", "pull", "{NAME}", "--yes"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1 and "free some space, or name another folder with --models" in done.stderr
    assert hub.requests("store") == [] and not own.exists()


def test_a_name_that_is_taken_is_not_taken_over(pochade, environment, hub, tmp_path, own):
    theirs = tmp_path / "webui" / "models" / "Stable-diffusion"
    theirs.mkdir(parents=True)
    (theirs / "sd15.safetensors").write_bytes(b"mine")
    environment["POCHADE_MODELS"] = str(tmp_path / "webui")
    done = pochade("models", "pull", "sd15", "--yes")
    assert done.returncode == 1 and f"'sd15' already names '{theirs / 'sd15.safetensors'}'" in done.stderr
    assert hub.log == [] and not own.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sd51",), "'sd51' is not the name of a known model (similar: 'sd15')"),
        (("sd15", "--variant", "fp16"), "'sd15' is the short name of one variant"),
        (("sd15", "--file", "x"), "'sd15' is the short name of one variant"),
    ],
)
def test_names_that_cannot_be_pulled(pochade, hub, arguments, said):
    done = pochade("models", "pull", *arguments, "--yes")
    assert done.returncode == 1 and said in done.stderr and hub.log == []
