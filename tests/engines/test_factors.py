"""Low-rank factors as inputs of a graph give the same results as merged weights."""

import numpy as np
import pytest

from pochade.engines.numpy import NumpyEngine
from pochade.engines.openvino import OpenVinoEngine
from pochade.int8 import grid
from pochade.weights import FACTOR_DOWN, FACTOR_UP
from tests.reference import relative_error

RANK = 3


def linear(ops, w, x):
    return ops.linear(x, w("a", (8, 6)), w("bias", (8,)))


def halves(ops, w, x):
    return ops.linear(x, w("a", (8, 6), slice(4, 8))) + ops.linear(x, w("a", (8, 6), slice(0, 4)))


def pixels(ops, w, x):
    return ops.conv2d(x, w("a", (8, 6, 1, 1)), w("bias", (8,)))


CASES = {
    "linear": (linear, (8, 6), (2, 5, 6)),
    "a vector": (linear, (8, 6), (2, 6)),
    "in halves": (halves, (8, 6), (2, 5, 6)),
    "a 1x1 convolution": (pixels, (8, 6, 1, 1), (2, 6, 4, 5)),
}


@pytest.mark.parametrize("eight_bits", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_product_with_factors(rng, case, eight_bits):
    function, shape, x_shape = CASES[case]
    tensors = {name: rng.standard_normal(s, np.float32) for name, s in (("a", shape), ("bias", (8,)))}
    up, down = rng.standard_normal((8, RANK), np.float32), rng.standard_normal((RANK, 6), np.float32)
    x = rng.standard_normal(x_shape, np.float32)
    inputs = {
        "x": (x_shape, "f32"),
        FACTOR_DOWN + "a": ((RANK, 6), "f32"),
        FACTOR_UP + "a": ((8, RANK), "f32"),
    }
    engine = OpenVinoEngine(threads=1)
    if eight_bits:
        whole = grid(-4, 4, np.ones(6, np.float32))
        engine = engine.quantized(dict.fromkeys(("a", "a[0:4]", "a[4:8]"), whole))
    graph = engine.compile(function, tensors, inputs)
    for strength in (0.0, 1.0, -0.4):
        summed = {**tensors, "a": tensors["a"] + strength * (up @ down).reshape(shape)}
        expected = NumpyEngine().compile(function, summed, {"x": (x_shape, "f32")})(x=x)
        result = graph(x=x, **{FACTOR_DOWN + "a": down, FACTOR_UP + "a": strength * up})
        assert relative_error(result, expected) < (0.03 if eight_bits else 1e-5)


def test_what_takes_no_factors_says_so(rng):
    observing = OpenVinoEngine(threads=1).observing({})
    inputs = {"x": ((2, 6), "f32"), FACTOR_UP + "a": ((8, RANK), "f32")}
    with pytest.raises(ValueError, match="take no LoRA factors"):
        observing.compile(linear, {"a": np.ones((8, 6)), "bias": np.ones(8)}, inputs)
    assert not hasattr(observing, "takes_factors") and not hasattr(NumpyEngine(), "takes_factors")
