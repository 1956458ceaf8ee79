"""Shape inference, compared with numpy, and the counted work, compared with manual counts."""

import numpy as np
import pytest

from pochade.engines.numpy import NumpyOps
from pochade.engines.shape_inference import ModelSummary, ShapeOps, ShapeTensor, infer_shapes
from pochade.weights import View


def model(ops, w, x, ids, end):
    """Every operation once, with awkward sizes. x: (2, 6, 9, 7), ids: (2, 5), end: (2,)."""
    h = ops.group_norm(x, w("norm.weight", (6,)), w("norm.bias", (6,)), 3, 1e-5)
    h = ops.conv2d(ops.silu(h), w("conv.weight", (8, 6, 3, 2)), w("conv.bias", (8,)), 2, (0, 1, 2, 0))
    h = ops.resize_nearest(h, 5, 3) / 2
    h = ops.concat([h, 1 - h], axis=1)  # (2, 16, 5, 3)
    t = ops.transpose(ops.reshape(h, (2, 16, -1)), (0, 2, 1))  # (2, 15, 16)
    t = ops.layer_norm(t, w("ln.weight", (16,)), w("ln.bias", (16,)), 1e-5)
    q = ops.linear(t, w("proj.weight", (24, 16), rows=slice(8, 16)), w("proj.bias", (24,), rows=slice(8, 16)))
    q = ops.transpose(ops.reshape(ops.gelu(q), (2, 15, 2, 4)), (0, 2, 1, 3))
    text = ops.quick_gelu(ops.embedding(ids, w("table", (11, 8))))  # (2, 5, 8)
    k = ops.transpose(ops.reshape(text, (2, 5, 2, 4)), (0, 2, 1, 3))
    pooled = ops.pick(text, end)
    return ops.attention(q, k, k), ops.attention(k, k, k, causal=True), ops.narrow(pooled, -1, 1, 4)


INPUTS = {"x": ((2, 6, 9, 7), "f32"), "ids": ((2, 5), "i64"), "end": ((2,), "i64")}


def test_shapes_and_parameters_are_those_of_a_real_run(rng):
    sketch = infer_shapes(model, INPUTS)
    tensors = {
        name: rng.standard_normal(shape).astype(np.float32) for name, shape in sketch.parameters.items()
    }
    returned = model(
        NumpyOps(),
        View(tensors),
        rng.standard_normal((2, 6, 9, 7)).astype(np.float32),
        rng.integers(0, 11, (2, 5)),
        np.array([4, 0]),
    )
    assert sketch.outputs == tuple(array.shape for array in returned)


def test_parameters_are_whole_and_in_the_order_of_use():
    assert infer_shapes(model, INPUTS).parameters == {
        "norm.weight": (6,),
        "norm.bias": (6,),
        "conv.weight": (8, 6, 3, 2),
        "conv.bias": (8,),
        "ln.weight": (16,),
        "ln.bias": (16,),
        "proj.weight": (24, 16),
        "proj.bias": (24,),
        "table": (11, 8),
    }
    assert list(infer_shapes(model, INPUTS).parameters)[2] == "conv.weight"
    assert infer_shapes(model, INPUTS).parameter_count == 12 + 8 * 36 + 8 + 32 + 24 * 16 + 24 + 88


def test_products_are_those_counted_by_hand():
    # The convolution returns (2, 8, 4, 4): (9 + 1 - 3) // 2 + 1 rows, (7 + 2 - 2) // 2 + 1 columns.
    assert infer_shapes(model, INPUTS).products == {
        "conv2d": 2 * 8 * 4 * 4 * (6 * 3 * 2),
        "linear": 2 * 15 * 8 * 16,
        "attention": 2 * (2 * 2 * 15 * 5 * 4) + 2 * (2 * 2 * 5 * 5 * 4),
    }


def test_prefixes_and_repeated_weights():
    def function(ops, w, x):
        inner = w / "block" / 0
        return x * inner("scale", (3,)) + inner("scale", (3,))

    assert infer_shapes(function, {"x": ((2, 3), "f32")}) == ModelSummary(
        {"block.0.scale": (3,)}, ((2, 3),), {}
    )


def test_a_weight_with_two_shapes_is_named():
    def function(ops, w, x):
        return x * w("scale", (3,)) + w("scale", (1,))

    with pytest.raises(ValueError, match=r"'scale' is asked for as \(1,\), and elsewhere as \(3,\)"):
        infer_shapes(function, {"x": ((2, 3), "f32")})


def s(*shape):
    return ShapeTensor(shape)


MISFITS = {
    "linear": lambda ops: ops.linear(s(2, 3), s(4, 5)),
    "linear: .*bias": lambda ops: ops.linear(s(2, 3), s(4, 3), s(3)),
    "conv2d": lambda ops: ops.conv2d(s(1, 3, 8, 8), s(4, 2, 3, 3), None),
    "conv2d: .*bias": lambda ops: ops.conv2d(s(1, 3, 8, 8), s(4, 3, 3, 3), s(3)),
    "conv2d, padding": lambda ops: ops.conv2d(s(1, 3, 1, 8), s(4, 3, 3, 3), None, 1, (1, 0, 0, 0)),
    "attention: .*key": lambda ops: ops.attention(s(1, 2, 3, 4), s(1, 2, 3, 5), s(1, 2, 3, 5)),
    "attention: .*value": lambda ops: ops.attention(s(1, 2, 3, 4), s(1, 2, 3, 4), s(1, 2, 4, 4)),
    "causal attention": lambda ops: ops.attention(s(1, 2, 3, 4), s(1, 2, 5, 4), s(1, 2, 5, 4), causal=True),
    "group_norm, 4 groups": lambda ops: ops.group_norm(s(1, 6, 2, 2), s(6), s(6), 4, 1e-5),
    "group_norm, 3 groups": lambda ops: ops.group_norm(s(1, 6, 2, 2), s(6), s(5), 3, 1e-5),
    "group_statistics, 4 groups": lambda ops: ops.group_statistics(s(1, 6, 2, 2), 4, 1e-5),
    "layer_norm": lambda ops: ops.layer_norm(s(2, 3), s(2), s(2), 1e-5),
    "reshape to": lambda ops: ops.reshape(s(2, 3), (4, 2)),
    r"reshape to \(-1, -1\)": lambda ops: ops.reshape(s(2, 3), (-1, -1)),
    r"reshape to \(4, -1\)": lambda ops: ops.reshape(s(2, 3), (4, -1)),
    "transpose by": lambda ops: ops.transpose(s(2, 3), (0, 0)),
    "concat along 1": lambda ops: ops.concat([s(2, 3), s(3, 3)], 1),
    "concat along 2": lambda ops: ops.concat([s(2, 3)], 2),
    r"narrow to 2\.\.4 along 1": lambda ops: ops.narrow(s(2, 3), 1, 2, 4),
    "resize_nearest to 0 x 4": lambda ops: ops.resize_nearest(s(1, 2, 3, 4), 0, 4),
    "embedding": lambda ops: ops.embedding(s(2), s(5, 3)),
    "pick": lambda ops: ops.pick(s(2, 3, 4), s(3)),
    "arithmetic": lambda ops: s(2, 3) + s(2),
}


@pytest.mark.parametrize("operation", MISFITS)
def test_shapes_that_do_not_fit_are_named(operation):
    with pytest.raises(ValueError, match=operation) as raised:
        MISFITS[operation](ShapeOps())
    assert "(2" in str(raised.value) or "(1" in str(raised.value)  # the shapes stand in the message


@pytest.mark.parametrize("shapes", [((2, 3), (3,)), ((), (2, 3)), ((4, 1), (1, 5))])
def test_arithmetic_broadcasts_as_numpy_does(shapes):
    x, y = (np.ones(shape) for shape in shapes)
    a, b = (ShapeTensor(shape) for shape in shapes)
    for actual in (a + b, b - a, a * b, b / a):
        assert actual.shape == (x + y).shape
    for actual in (1 + a, 1 - a, 2 * a, 2 / a, a + 1, a - 1, a * 2, a / 2, np.float32(2) * a):
        assert actual.shape == x.shape


def test_an_outline_takes_no_numbers():
    wide = {"x": ((64, 4, 4096, 4096), "f32")}  # 16 GiB, were it real
    result = infer_shapes(lambda ops, w, x: ops.silu(x) * 2, wide)
    assert result.outputs == ((64, 4, 4096, 4096),)
