"""Every engine behind one function: `evaluate(function, arrays, tensors)`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from pochade.engines.numpy import NumpyEngine
from pochade.engines.openvino import OpenVinoEngine
from pochade.engines.torch import TorchEngine

torch.set_num_threads(1)

ENGINES = {
    "numpy": NumpyEngine,
    "openvino": lambda: OpenVinoEngine(threads=1),
    "torch": TorchEngine,
}


def shapes_and_types(arrays: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], str]]:
    return {
        name: (array.shape, "i64" if array.dtype.kind == "i" else "f32") for name, array in arrays.items()
    }


@pytest.fixture
def describe() -> Callable[..., Any]:
    """Return the `inputs` for `compile` from arrays by name."""
    return shapes_and_types


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Any:
    return ENGINES[request.param]()


@pytest.fixture
def evaluate(engine: Any) -> Callable[..., Any]:
    def run(
        function: Callable[..., Any], arrays: Mapping[str, Any], tensors: Mapping[str, Any] | None = None
    ) -> Any:
        compiled = engine.compile(function, {} if tensors is None else tensors, shapes_and_types(arrays))
        return compiled(**arrays)

    return run


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240817)
