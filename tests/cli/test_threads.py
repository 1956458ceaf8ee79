"""`--threads` in all commands that draw or serve."""

import argparse
from pathlib import Path

import pytest

from pochade.cli.main import main
from pochade.cli.server_options import add_drawing_options, add_model_options, options_of
from pochade.errors import InvalidRequest
from pochade.jobs.catalogue import Folders
from pochade.jobs.runner import JobRunner
from pochade.jobs.storage import Storage
from pochade.server.workers import slot_of

COMMANDS = (
    ("draw", "a fox"),
    ("plot", "a fox", "--x", "seed=1-2"),
    ("walk", "a fox", "a cat"),
    ("bench",),
    ("evaluate",),
    ("models", "quantize", "starter"),
)


@pytest.mark.parametrize("command", [*COMMANDS, ("upscale",), ("serve",), ("mcp",)], ids=" ".join)
def test_each_command_has_it(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    assert "--threads N" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_gives_it_on(
    command: tuple[str, ...],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--threads", "0"]) == 1
    assert "error: --threads is 0; it must lie between 1 and 1024" in capfd.readouterr().err


def asked(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    add_drawing_options(parser)
    return parser.parse_args(words)


def test_workers_are_given_it(tmp_path: Path) -> None:
    options = options_of(asked("--threads", "3"), tmp_path)
    slot = slot_of(options, Storage(tmp_path), "cpu")
    assert slot.settings.options["threads"] == "3"
    assert JobRunner(Folders(), **slot.settings.options)._options["threads"] == 3
    plain = slot_of(options_of(asked(), tmp_path), Storage(tmp_path), "cpu")
    assert JobRunner(Folders(), **plain.settings.options)._options["threads"] is None


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--threads", "0"), "--threads is 0; it must lie between 1 and 1024"),
        (("--threads", "2", "--engine", "numpy"), "--threads is 2, but the numpy engine cannot limit"),
        (
            ("--threads", "2", "--device", "cpu", "--device", "cuda"),
            "applies only to the CPU and cannot be combined with --device cuda",
        ),
    ],
)
def test_a_server_refuses_it_at_its_start(words: tuple[str, ...], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as raised:
        options_of(asked(*words), tmp_path)
    assert complaint in str(raised.value)
