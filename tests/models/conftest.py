"""Engines in every precision that this processor computes in."""

from typing import Any

import pytest
import torch

from pochade.engines.openvino import device_features
from tests.models.measure import ENGINES

torch.set_num_threads(1)

BOUNDS = {"f32": 1e-4, "bf16": 2e-2}


@pytest.fixture(params=ENGINES, ids=" ".join)
def engine(request: pytest.FixtureRequest) -> Any:
    """(engine, the relative error that it may show)."""
    name, precision = request.param
    if name == "openvino" and precision not in device_features().precisions:
        pytest.skip(f"this processor has no {precision} arithmetic")
    return ENGINES[request.param](), BOUNDS[precision]
