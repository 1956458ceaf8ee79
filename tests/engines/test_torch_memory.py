"""How long the torch engine keeps weights on its device."""

import gc

import numpy as np

from pochade.engines.torch import DeviceWeights, TorchEngine
from pochade.ops import Ops, Tensor
from pochade.weights import View

INPUTS = {"x": ((1, 3), "f32")}
X = np.ones((1, 3), np.float32)


def double(ops: Ops, w: View, x: Tensor) -> Tensor:
    return ops.linear(x, w("weight", (3, 3)))


def placed() -> int:
    return sum(type(each) is DeviceWeights for each in gc.get_objects())


def test_functions_of_the_same_weights_share_them_and_the_last_one_takes_them_along() -> None:
    before = placed()
    engine, tensors = TorchEngine("cpu", "f32"), {"weight": np.eye(3, dtype=np.float32)}
    first, second = (engine.compile(double, tensors, INPUTS) for _ in range(2))
    assert np.array_equal(first(x=X), second(x=X))
    assert placed() == before + 1
    del first
    gc.collect()
    assert placed() == before + 1
    del second
    gc.collect()
    assert placed() == before
    assert np.array_equal(engine.compile(double, tensors, INPUTS)(x=X), X)
