"""What the command line refuses, and what starting does not bring in."""

import json
import subprocess
import sys

import pytest

from tests.server.conftest import ROOT


def run(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pochade", "serve", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_the_server_brings_in_no_engine(environment: dict[str, str]) -> None:
    code = """
import json, sys
from pathlib import Path
from pochade.server.app import make_app
from pochade.server.desk import Desk, Options
make_app(Desk(Options(data=Path("/nowhere"))))
print(json.dumps([name for name in ("openvino", "torch", "pochade.pipeline", "mcp") if name in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--host", "0.0.0.0"), "there is no key"),
        (("--port", "70000"), "--port is 70000"),
        (("--key", "short"), "too short"),
        (("--key", "long enough", "--keys", "file"), "one of them is enough"),
        (("--lora-dir", "/nowhere"), "is no folder"),
        (("--max-steps", "0"), "--max-steps is 0"),
        (("--model", "nope"), "--model 'nope'"),
        (("--host", "192.0.2.1", "--key", "long enough"), "cannot listen on 192.0.2.1"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_sentence(
    environment: dict[str, str], tmp_path: object, arguments: tuple[str, ...], message: str
) -> None:
    done = run(environment, "--port", "0", "--data", f"{tmp_path}/data", *arguments)
    assert done.returncode == 1 and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
