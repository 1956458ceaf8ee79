"""Each operation, on each engine, against loops and closed forms in double precision."""

import math
from itertools import product

import numpy as np
import pytest

from pochade.engines.shape_inference import infer_shapes


def check(actual, expected, tolerance=1e-5):
    """Same type, same shape, and a relative distance (Frobenius) below the tolerance."""
    assert isinstance(actual, np.ndarray) and actual.dtype == np.float32
    assert actual.shape == expected.shape
    assert np.linalg.norm(actual - expected) <= tolerance * np.linalg.norm(expected)


def normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def naive_conv2d(x, weight, bias, stride, padding):
    top, bottom, left, right = padding
    batch, channels, height, width = x.shape
    padded = np.zeros((batch, channels, height + top + bottom, width + left + right))
    padded[:, :, top : top + height, left : left + width] = x
    kernel_height, kernel_width = weight.shape[2:]
    rows = range(0, padded.shape[2] - kernel_height + 1, stride)
    columns = range(0, padded.shape[3] - kernel_width + 1, stride)
    y = np.zeros((batch, weight.shape[0], len(rows), len(columns)))
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        patch = padded[:, :, row : row + kernel_height, column : column + kernel_width]
        y[:, :, i, j] = np.einsum("bcuv,ocuv->bo", patch, weight.astype(np.float64))
    return y if bias is None else y + bias[None, :, None, None]


def naive_attention(query, key, value, causal):
    result = np.zeros(query.shape)
    for b, n, t in product(*map(range, query.shape[:3])):
        stop = t + 1 if causal else key.shape[2]
        scores = key[b, n, :stop].astype(np.float64) @ query[b, n, t] / math.sqrt(query.shape[3])
        shares = np.exp(scores - scores.max())
        result[b, n, t] = shares / shares.sum() @ value[b, n, :stop]
    return result


@pytest.mark.parametrize("leading", [(), (3,), (2, 5), (2, 3, 4)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_linear(evaluate, rng, leading, with_bias):
    x, weight, bias = normal(rng, *leading, 7), normal(rng, 5, 7), normal(rng, 5)

    def function(ops, w, x):
        return ops.linear(x, w("weight", (5, 7)), w("bias", (5,)) if with_bias else None)

    expected = np.einsum("...i,oi->...o", x.astype(np.float64), weight) + (bias if with_bias else 0)
    check(evaluate(function, {"x": x}, {"weight": weight, "bias": bias}), expected)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 0, 1), (2, 0, 1, 3)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (3, 2)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_conv2d(evaluate, rng, stride, padding, kernel, with_bias, describe):
    x, weight, bias = normal(rng, 2, 3, 9, 8), normal(rng, 5, 3, *kernel), normal(rng, 5)

    def function(ops, w, x):
        b = w("bias", (5,)) if with_bias else None
        return ops.conv2d(x, w("weight", (5, 3, *kernel)), b, stride, padding)

    expected = naive_conv2d(x, weight, bias if with_bias else None, stride, padding)
    check(evaluate(function, {"x": x}, {"weight": weight, "bias": bias}), expected)
    assert infer_shapes(function, describe({"x": x})).outputs == (expected.shape,)


@pytest.mark.parametrize(
    ("query_tokens", "key_tokens", "causal"), [(6, 6, False), (6, 11, False), (1, 1, False), (6, 6, True)]
)
def test_attention(evaluate, rng, query_tokens, key_tokens, causal):
    query = normal(rng, 2, 3, query_tokens, 8)
    key, value = normal(rng, 2, 3, key_tokens, 8), normal(rng, 2, 3, key_tokens, 8)

    def function(ops, w, query, key, value):
        return ops.attention(query, key, value, causal=causal)

    arrays = {"query": query, "key": key, "value": value}
    check(evaluate(function, arrays), naive_attention(query, key, value, causal))


def test_attention_to_a_far_larger_key_does_not_overflow(evaluate):
    query = key = np.full((1, 1, 2, 4), 200, np.float32)  # scores of 80,000
    value = np.arange(8, dtype=np.float32).reshape(1, 1, 2, 4)

    def function(ops, w, query, key, value):
        return ops.attention(query, key, value)

    mean = np.broadcast_to(value.mean(axis=2, keepdims=True), value.shape)
    check(evaluate(function, {"query": query, "key": key, "value": value}), mean)


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_group_norm(evaluate, rng, groups):
    x, weight, bias = 3 + 2 * normal(rng, 2, 6, 5, 3), normal(rng, 6), normal(rng, 6)
    eps = 0.1  # large, so that a wrong place of it shows

    def function(ops, w, x):
        return ops.group_norm(x, w("weight", (6,)), w("bias", (6,)), groups, eps)

    expected = np.empty(x.shape)
    for b, c in product(range(2), range(6)):
        size = 6 // groups
        group = x[b, c // size * size : (c // size + 1) * size].astype(np.float64)
        expected[b, c] = (x[b, c] - group.mean()) / math.sqrt(group.var() + eps) * weight[c] + bias[c]
    check(evaluate(function, {"x": x}, {"weight": weight, "bias": bias}), expected)


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_group_statistics(evaluate, rng, groups):
    x, eps = 3 + 2 * normal(rng, 2, 6, 5, 3), 0.1

    def function(ops, w, x):
        return ops.concat(ops.group_statistics(x, groups, eps), axis=0)

    grouped = x.reshape(2, groups, -1).astype(np.float64)
    expected = np.concatenate([grouped.mean(-1), np.sqrt(grouped.var(-1) + eps)])
    check(evaluate(function, {"x": x}), expected)


@pytest.mark.parametrize("leading", [(4,), (2, 3)])
def test_layer_norm(evaluate, rng, leading):
    x, weight, bias = 3 + 2 * normal(rng, *leading, 7), normal(rng, 7), normal(rng, 7)

    def function(ops, w, x):
        return ops.layer_norm(x, w("weight", (7,)), w("bias", (7,)), 0.1)

    wide = x.astype(np.float64)
    deviation = np.sqrt(wide.var(-1, keepdims=True) + 0.1)
    expected = (wide - wide.mean(-1, keepdims=True)) / deviation * weight + bias
    check(evaluate(function, {"x": x}, {"weight": weight, "bias": bias}), expected)


NONLINEARITIES = {
    "silu": lambda v: v / (1 + math.exp(-v)) if v > -700 else 0.0,
    "gelu": lambda v: v * math.erfc(-v / math.sqrt(2)) / 2,
    "quick_gelu": lambda v: v / (1 + math.exp(-1.702 * v)) if v > -400 else 0.0,
    "tanh": math.tanh,
}


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_nonlinearity(evaluate, name):
    x = np.concatenate([np.linspace(-6, 6, 1201), [-1000, -100, -30, 30, 100, 1000]]).astype(np.float32)

    def function(ops, w, x):
        return getattr(ops, name)(x)

    expected = np.array([NONLINEARITIES[name](float(v)) for v in x])
    actual = evaluate(function, {"x": x})
    check(actual[:1201], expected[:1201])
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_leaky_relu(evaluate, slope):
    x = np.array([[-1000, -2, -0.5, 0, 0.5, 2, 1000]], np.float32)

    def function(ops, w, x):
        return ops.leaky_relu(x, slope)

    check(evaluate(function, {"x": x}), np.where(x > 0, x, slope * x))


def test_gelu_of_the_reference_holds_in_the_lower_tail():
    from pochade.engines.numpy import NumpyOps

    actual = NumpyOps().gelu(np.array([-10.0], np.float32))
    np.testing.assert_allclose(actual, -10 * 7.619853024160527e-24, rtol=1e-6)  # Phi(-10), from tables


def test_reshape(evaluate, rng):
    x = normal(rng, 2, 3, 4)
    np.testing.assert_array_equal(
        evaluate(lambda ops, w, x: ops.reshape(x, (4, 6)), {"x": x}), x.reshape(4, 6)
    )
    np.testing.assert_array_equal(
        evaluate(lambda ops, w, x: ops.reshape(x, (3, -1)), {"x": x}), x.reshape(3, 8)
    )


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1)])
def test_transpose(evaluate, axes):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    actual = evaluate(lambda ops, w, x: ops.transpose(x, axes), {"x": x})
    assert actual.shape == tuple(x.shape[axis] for axis in axes)
    for index in np.ndindex(2, 3, 4):
        assert actual[tuple(index[axis] for axis in axes)] == x[index]


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_concat(evaluate, rng, axis):
    a, b = normal(rng, 2, 3, 4), normal(rng, 2, 3, 4)
    actual = evaluate(lambda ops, w, a, b: ops.concat([a, b, a], axis), {"a": a, "b": b})
    np.testing.assert_array_equal(actual, np.concatenate([a, b, a], axis))


@pytest.mark.parametrize(("axis", "start", "stop"), [(0, 1, 2), (1, 0, 3), (2, 2, 5), (-1, 4, 5)])
def test_narrow(evaluate, rng, axis, start, stop):
    x = normal(rng, 2, 3, 5)
    actual = evaluate(lambda ops, w, x: ops.narrow(x, axis, start, stop), {"x": x})
    np.testing.assert_array_equal(actual, np.take(x, range(start, stop), axis))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 4), (5, 2)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_conv2d_doubled(evaluate, rng, height, width, with_bias):
    x, weight, bias = normal(rng, 2, 3, height, width), normal(rng, 4, 3, 3, 3), normal(rng, 4)

    def function(ops, w, x):
        return ops.conv2d_doubled(x, w("weight", (4, 3, 3, 3)), w("bias", (4,)) if with_bias else None)

    doubled = x.repeat(2, axis=2).repeat(2, axis=3)
    expected = naive_conv2d(doubled, weight, bias if with_bias else None, 1, (1, 1, 1, 1))
    check(evaluate(function, {"x": x}, {"weight": weight, "bias": bias}), expected)


@pytest.mark.parametrize("height", [1, 2, 3, 5, 6, 7, 8, 24])
def test_resize_nearest_copies_the_pixel_that_the_vocabulary_names(evaluate, rng, height):
    wide = range(1, 40)
    x = normal(rng, 2, 3, height, 4)

    def function(ops, w, x):
        return tuple(ops.resize_nearest(x, h, 9) for h in wide)

    for h, actual in zip(wide, evaluate(function, {"x": x}), strict=True):
        for i, j in product(range(h), range(9)):
            np.testing.assert_array_equal(actual[:, :, i, j], x[:, :, i * height // h, j * 4 // 9])


def test_doubling_copies_each_pixel_four_times(evaluate, rng):
    x = normal(rng, 2, 3, 5, 7)
    actual = evaluate(lambda ops, w, x: ops.resize_nearest(x, 10, 14), {"x": x})
    np.testing.assert_array_equal(actual, x.repeat(2, axis=2).repeat(2, axis=3))


def test_embedding(evaluate, rng):
    table, ids = normal(rng, 11, 4), np.array([[0, 10, 3], [5, 5, 9]])
    actual = evaluate(lambda ops, w, ids: ops.embedding(ids, w("t", (11, 4))), {"ids": ids}, {"t": table})
    np.testing.assert_array_equal(actual, [[table[i] for i in row] for row in ids])


def test_pick(evaluate, rng):
    x, positions = normal(rng, 3, 5, 4), np.array([4, 0, 2])
    actual = evaluate(lambda ops, w, x, p: ops.pick(x, p), {"x": x, "p": positions})
    np.testing.assert_array_equal(actual, [x[0, 4], x[1, 0], x[2, 2]])


ARITHMETIC = {
    "x + y": lambda x, y: x + y,
    "x - y": lambda x, y: x - y,
    "x * y": lambda x, y: x * y,
    "x / y": lambda x, y: x / y,
    "number first": lambda x, y: (1 - x) + (2 * y) + 3 / (4 + x * x),
    "number last": lambda x, y: ((x + 1) * 2 - 0.5) / 3 + y,
    "numpy scalar": lambda x, y: np.float32(2) * x + y * np.float32(0.5) - np.float64(0.25),
}


@pytest.mark.parametrize("expression", ARITHMETIC.values(), ids=ARITHMETIC)
@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1, 4), (3, 1)), ((), (2, 3))])
def test_arithmetic_broadcasts(evaluate, rng, expression, shapes, describe):
    x, y = (normal(rng, *shape) + np.float32(3) for shape in shapes)
    arrays = {"x": np.asarray(x), "y": np.asarray(y)}

    def function(ops, w, x, y):
        return expression(x, y)

    expected = expression(x.astype(np.float64), y.astype(np.float64))
    check(evaluate(function, arrays), expected, 1e-6)
    assert infer_shapes(function, describe(arrays)).outputs == (expected.shape,)
