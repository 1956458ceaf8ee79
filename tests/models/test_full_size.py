"""The networks at their real size: minutes and up to 16 GB of memory each, hence slow."""

import shutil
from pathlib import Path

import pytest

from pochade.engines.openvino import device_features
from tests.models.full_size import CASES, ENGINES, in_another_process

pytestmark = pytest.mark.slow

BOUNDS = {"f32": 1e-4, "bf16": 2e-2}


@pytest.fixture(scope="module", params=CASES)
def prepared(request, tmp_path_factory):
    """(name of the case, folder with its reference). One at a time: the largest takes 5 GB of disk."""
    folder: Path = tmp_path_factory.mktemp("full_size")
    in_another_process("prepare", request.param, str(folder))
    yield request.param, folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(("engine", "precision"), ENGINES, ids=map(" ".join, ENGINES))
def test_full_size(prepared, engine, precision):
    if engine == "openvino" and precision not in device_features().precisions:
        pytest.skip(f"this processor has no {precision} arithmetic")
    name, folder = prepared
    assert float(in_another_process("compare", str(folder), name, engine, precision)) < BOUNDS[precision]
