"""`pochade bench`: consistent results, and reports about failed measurements."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pochade
from pochade.cli import bench
from pochade.cli.main import main
from pochade.engines.numpy import NumpyEngine
from pochade.engines.shape_inference import infer_shapes
from pochade.loading.parameter_shapes import with_config
from pochade.models.unet import unet
from pochade.tools.benchmark import ceiling, evaluation
from tests.cli.conftest import Command


def test_a_short_run(pochade: Command, tmp_path: Path) -> None:
    quick = ("bench", "--steps", "2", "--pictures", "1", "--speed", "exact", "--json", "new/mine.json")
    done = pochade(*quick)
    assert done.returncode == 0, done.stderr
    assert "of ceiling" in done.stdout and "pictures: 128x128 px, 2 steps" in done.stdout
    assert done.stdout.splitlines()[-1] == "new/mine.json"
    said = json.loads((tmp_path / "new" / "mine.json").read_text())
    for about in said["precisions"].values():
        found = {each["is"]: each for each in about["found"]}
        assert set(found) == {"start", "evaluation", "picture", "memory", "ceiling"}
        assert len(found["evaluation"]["seconds"]) == 5 and len(found["picture"]["seconds"]) == 1
        reached = found["evaluation"]["flop"] / min(found["evaluation"]["seconds"])
        assert 0 < reached < 2 * found["ceiling"]["flops"]
        assert 10**8 < about["own_peak_bytes"] <= found["memory"]["peak_bytes"]
    assert "f32" in said["precisions"]
    assert set(said["precisions"]) | set(said["refused"]) >= {"f32", "bf16", "f16"}
    again = pochade(*quick)
    assert again.returncode == 1 and "'new/mine.json' exists and is not replaced" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--precision", "f8"), "precision 'f8' is unknown; one of: f32,"),
        (("--model", "none.safetensors"), "'none.safetensors' does not exist"),
        (("--pictures", "0"), "--pictures is 0"),
        (("--steps", "0"), "--steps is 0"),
        (("--size", "100x100", "--precision", "f32"), "width in --size is 100;"),
        (("--size", "100x128", "--precision", "f32", "--speed"), "width in --size is 100;"),
        (("--size", "0x64", "--precision", "f32"), "width in --size is 0;"),
    ],
)
def test_what_cannot_be_measured(pochade: Command, arguments: tuple[str, ...], said: str) -> None:
    done = pochade("bench", *arguments)
    assert done.returncode == 1 and said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_flop_of_an_evaluation_are_those_of_its_shapes() -> None:
    pipeline = pochade.load()
    config = pipeline.networks.unet_config
    evaluate, flop = evaluation(pipeline, 64, 128)
    shapes = {
        "x": ((2, 4, 16, 8), "f32"),
        "time": ((2, config.widths[0]), "f32"),
        "context": ((2, 32, config.context_width), "f32"),
    }
    assert flop == 2 * sum(infer_shapes(with_config(unet, config), shapes).products.values())
    assert evaluate().shape == (2, 4, 16, 8)


def test_a_ceiling_is_what_the_engine_does_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is told to stand still but for one second in each call."""
    ticks = iter(np.arange(0.0, 1000.0, 1.0))
    monkeypatch.setattr("pochade.tools.benchmark.time.perf_counter", lambda: next(ticks))
    for name, value in (("MATRIX", 16), ("MATRICES", 3), ("CHANNELS", 2), ("SIDE", 4), ("KERNELS", 1)):
        monkeypatch.setattr(f"pochade.tools.benchmark.{name}", value)
    assert ceiling(NumpyEngine("cpu", "f32")) == 3 * 2 * 16**3


def test_what_was_measured_is_told_if_another_precision_fails(monkeypatch, tmp_path: Path, capsys) -> None:
    """And 8-bit grids are fitted before their start is measured."""
    asked = []

    def measured(settings):
        asked.append((settings.precision, settings.only_load))
        if settings.precision == "f32":
            raise bench.MeasurementFailed("measuring f32 ended with status -9")
        found = [
            {"is": "start", "load_s": 1.0, "first_s": 2.0},
            {"is": "evaluation", "seconds": [1.0], "flop": 10**9},
            {"is": "memory", "peak_bytes": 10**9},
            {"is": "ceiling", "flops": 2e9},
        ]
        return bench.Measured(settings.precision, found, None)

    monkeypatch.setattr(bench, "_measured", measured)
    target = tmp_path / "mine.json"
    assert main(["bench", "--precision", "f32", "int8", "--speed", "--json", str(target)]) == 0
    assert asked == [("f32", False), ("int8", True), ("int8", False)]
    said = capsys.readouterr().out
    assert "50%" in said and "no f32: measuring f32 ended with status -9" in said
    assert list(json.loads(target.read_text())["precisions"]) == ["int8"]


MEMORY = """
import sys
import numpy as np
from pochade.loading.process_memory import held, peak_bytes
before = held()
if before is None:
    sys.exit()
mapped = np.memmap(sys.argv[1], np.uint8, "r")
assert mapped.sum() == 0
files = held().files - before.files
ours = np.ones(60_000_000, np.uint8)
after = held()
print(files, after.own - before.own, peak_bytes() - after.own - before.files, held(2**30))
"""


def test_memory_is_told_by_kind(tmp_path: Path) -> None:
    """In a process of its own, where nothing else is let go meanwhile."""
    file = tmp_path / "zeros"
    file.write_bytes(bytes(40_000_000))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(file)], capture_output=True, text=True, check=True
    )
    if not done.stdout:
        pytest.skip("the system does not say")
    files, own, peak, nobody = done.stdout.split()
    assert int(files) > 35_000_000
    assert 55_000_000 < int(own) < 80_000_000
    assert int(peak) > -20_000_000
    assert nobody == "None"
