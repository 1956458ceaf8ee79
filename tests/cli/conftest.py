"""Fixtures that run the command line in a separate process."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.additions import write_adapter, write_embedding
from tests.controls import write_control

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The caller's environment, with a separate cache and models folder and without tokens."""
    cache = tmp_path_factory.mktemp("cache")
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "POCHADE_"))}
    return {
        **outside,
        "POCHADE_CACHE": str(cache),
        "XDG_DATA_HOME": str(cache / "data"),
        "HF_HOME": str(cache / "hub"),
        "HF_ENDPOINT": "http://127.0.0.1:9",  # no test contacts the real hub
        "PYTHONWARNINGS": "error",
    }


@pytest.fixture
def pochade(environment: dict[str, str], tmp_path: Path) -> Command:
    """`pochade("draw", "a red apple", ...)` runs the command in an empty folder."""

    def run(*arguments: str | bytes, **options: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "pochade", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            **options,  # type: ignore[call-overload]
        )

    return run


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ink.safetensors` for the starter's UNet, and `words/blob.safetensors`."""
    folder = tmp_path_factory.mktemp("files")
    write_adapter(folder / "ink.safetensors")
    (folder / "words").mkdir()
    write_embedding(folder / "words" / "blob.safetensors")
    return folder


@pytest.fixture(scope="session")
def control_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random ControlNet for the starter."""
    return write_control(tmp_path_factory.mktemp("control"))
