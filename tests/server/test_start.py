"""Invalid options of `pochade serve`, and modules that it must not import."""

import argparse
import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from pochade.cli import serve
from pochade.cli.main import main
from pochade.cli.server_options import options_of
from pochade.jobs.limits import Limits
from tests.server.conftest import ROOT


def test_the_server_brings_in_no_engine(environment: dict[str, str]) -> None:
    code = """
import json, sys
from pathlib import Path
from pochade.server.app import make_app
from pochade.server.service import Service
from pochade.server.config import Options
make_app(Service(Options(data=Path("/nowhere"))))
print(json.dumps([name for name in ("openvino", "torch", "pochade.pipeline", "mcp") if name in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("limit", [each.name for each in fields(Limits)])
def test_every_limit_may_be_changed(limit: str, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    options = parser.parse_args(["serve", f"--max-{limit.replace('_', '-')}", "7"])
    assert options_of(options, tmp_path).limits == replace(Limits(), **{limit: 7})
    assert options_of(parser.parse_args(["serve"]), tmp_path).limits == Limits()


def test_how_long_a_drawing_may_stand_still_may_be_said(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    for words, seconds in ((["--stall-minutes", "5"], 300.0), (["--stall-minutes", "0"], 0.0), ([], 1800.0)):
        assert options_of(parser.parse_args(["serve", *words]), tmp_path).stall_s == seconds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--host", "0.0.0.0"), "requires a key"),
        (("--port", "70000"), "--port is 70000"),
        (("--key", "short"), "too short"),
        (("--key", "long enough", "--keys", "file"), "use only one of them"),
        (("--lora-dir", "/nowhere"), "is not a folder"),
        (("--max-steps", "0"), "--max-steps is 0"),
        (("--stall-minutes", "-1"), "--stall-minutes is -1"),
        (("--stall-minutes", "nan"), "--stall-minutes is nan"),
        (("--trusted-proxy", "*"), "--trusted-proxy '*' is not the address"),
        (("--allow-host", "https://studio.example.org"), "without http:// and port"),
        (("--model", "nope"), "--model 'nope'"),
        (("--host", "192.0.2.1", "--key", "long enough"), "cannot listen on 192.0.2.1"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_sentence(
    environment: dict[str, str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("POCHADE_CACHE", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, environment[name])
    assert main(["serve", "--port", "0", "--data", str(tmp_path / "data"), *arguments]) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_a_sentence_is_all_that_the_shell_gets(environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pochade", "serve", "--data", str(tmp_path / "data"), "--model", "nope"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr.startswith("pochade: error: --model 'nope' is neither a path")
        and done.stderr.count("\n") == 1
    )
