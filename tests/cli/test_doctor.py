"""`pochade doctor`: the report about extras and threads."""

import tomllib
from pathlib import Path

import pytest

from pochade.cli import doctor
from pochade.cli.main import main
from pochade.engines import cpu_features
from pochade.machine import Processors

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_every_extra_is_there() -> None:
    extras = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert list(doctor.EXTRAS) == [extra for extra in extras if extra != "dev"]


def test_it_says_what_an_extra_is_for_and_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = {"mcp", "mcp_types", "c2pa", "cryptography"}
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name in absent else object())
    assert main(["doctor", "--device", "cpu"]) == 0
    said = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert said["train"] == "installed (for pochade train)"
    assert said["mcp"].startswith("without mcp, mcp_types (only for ") and "'pochade[mcp]'" in said["mcp"]
    assert said["c2pa"].startswith("not installed (only for ") and "'pochade[c2pa]'" in said["c2pa"]


def test_the_values_of_its_options_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for names in (
        "auto, cpu, gpu, cuda or mps",
        "auto, f32, bf16, f16 or int8",
        "auto, openvino, torch or numpy",
    ):
        assert names in shown


def test_it_names_instructions_and_threads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text("flags\t: avx512f avx512_vnni amx_tile amx_bf16 amx_int8\n")
    monkeypatch.setattr(cpu_features.instructions, "__defaults__", (told,))
    monkeypatch.setattr(doctor, "processors", lambda: Processors(16, 8, 2.5))
    assert main(["doctor", "--device", "cpu"]) == 0
    said = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert said["instructions"] == "AVX-512, VNNI, AMX BF16, AMX INT8"
    assert said["threads"].startswith(
        "3: 8 cores with 16 threads may be used, and a control group, such as a"
    )
    assert "allows 2.5 of them" in said["threads"]


def test_without_a_quota_it_says_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "processors", lambda: Processors(16, 8))
    main(["doctor", "--device", "cpu"])
    said = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert said["threads"] == "8 cores with 16 threads may be used; change it with --threads"
