"""Files of grids: round trip, and errors."""

import json
from pathlib import Path

import numpy as np
import pytest

from pochade.checkpoints.grids import FORMAT
from pochade.checkpoints.safetensors import write
from pochade.errors import InvalidCheckpoint
from pochade.int8 import Grid
from pochade.quantization.files import StoredGrids, load, mark, save
from pochade.quantization.fit_grids import Quantized

SMOOTHING = np.linspace(0.5, 2, 4).astype(np.float32)


def test_grids_come_back_as_they_were(tmp_path: Path) -> None:
    tables = {
        "unet": {"a.weight": Quantized(Grid(-0.25, 7.1, SMOOTHING), 0.01)},
        "vae": {"b.weight[0:4]": Quantized(Grid(-1 / 3, 0.0, 2 * SMOOTHING), 0.5)},
    }
    marks = {"unet": "0123", "vae": "4567"}
    save(tmp_path / "grids.safetensors", StoredGrids(tables, marks))
    kept = load(tmp_path / "grids.safetensors")
    assert kept.marks == marks
    back = kept.tables
    assert {part: list(table) for part, table in back.items()} == {
        "unet": ["a.weight"],
        "vae": ["b.weight[0:4]"],
    }
    for part, table in tables.items():
        for name, each in table.items():
            found = back[part][name]
            assert (found.grid.low, found.grid.high, found.error) == (
                each.grid.low,
                each.grid.high,
                each.error,
            )
            assert np.array_equal(found.grid.smoothing, each.grid.smoothing)
    assert back["unet"]["a.weight"].used and not back["vae"]["b.weight[0:4]"].used


def written(path: Path, **metadata: str) -> Path:
    write(path, {"unet.a": SMOOTHING}, metadata=metadata)
    return path


@pytest.mark.parametrize(
    "grids",
    [
        "no json",
        "[1]",
        json.dumps({"unet": {"a": [0, 1]}}),
        json.dumps({"unet": {"a": ["x", 1, 0]}}),
        json.dumps({"unet": {"a": [1, -1, 0]}}),
        json.dumps({"unet": {"a": [0, 0, 0]}}),
        json.dumps({"unet": {"a": [-1, float("inf"), 0]}}),
        json.dumps({"unet": {"missing": [-1, 1, 0]}}),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path: Path, grids: str) -> None:
    path = written(tmp_path / "grids.safetensors", format=FORMAT, grids=grids, marks="{}")
    with pytest.raises(InvalidCheckpoint, match=r"grids\.safetensors.*models quantize"):
        load(path)


@pytest.mark.parametrize("smoothing", [[0.0, 1.0], [np.nan, 1.0], [[1.0]], [-1.0, 1.0]])
def test_smoothing_that_cannot_be_is_refused(tmp_path: Path, smoothing: list) -> None:
    path = tmp_path / "grids.safetensors"
    numbers = json.dumps({"unet": {"a": [-1, 1, 0]}})
    texts = {"format": FORMAT, "grids": numbers, "marks": "{}"}
    write(path, {"unet.a": np.float32(smoothing)}, metadata=texts)
    with pytest.raises(InvalidCheckpoint, match="damaged"):
        load(path)


def test_another_safetensors_file_is_no_file_of_grids(tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match="no 8-bit grids"):
        load(written(tmp_path / "grids.safetensors", format="pt"))


@pytest.mark.parametrize("marks", ["no json", "[]", "3"])
def test_marks_that_are_none_are_refused(tmp_path: Path, marks: str) -> None:
    path = written(tmp_path / "grids.safetensors", format=FORMAT, grids="{}", marks=marks)
    with pytest.raises(InvalidCheckpoint, match="damaged"):
        load(path)


def test_a_mark_is_of_the_numbers_and_not_of_their_storage(rng: np.random.Generator) -> None:
    tensors = {"a": rng.standard_normal((4, 8)).astype(np.float16), "b": np.zeros(3, np.float16)}
    wide = {name: tensor.astype(np.float32) for name, tensor in reversed(tensors.items())}
    assert mark(tensors) == mark(wide)
    other = {**tensors, "a": tensors["a"] * np.float16(1.5)}
    renamed = {"a": tensors["a"], "c": tensors["b"]}
    reshaped = {**tensors, "a": tensors["a"].reshape(8, 4)}
    assert len({mark(each) for each in (tensors, other, renamed, reshaped)}) == 4
