"""The OpenVINO engine: graphs, precisions, constants and errors."""

import threading

import ml_dtypes
import numpy as np
import pytest

from pochade.engines.numpy import NumpyEngine
from pochade.engines.openvino import DeviceFeatures, OpenVinoEngine, device_features
from pochade.engines.openvino_ops import Node
from pochade.errors import InvalidRequest

bf16_only = pytest.mark.skipif(
    "bf16" not in device_features().precisions, reason="this processor has no bf16 arithmetic"
)


def compile_on(engine, function, tensors, shape):
    return engine.compile(function, tensors, {"x": (shape, "f32")})


def block(ops, w, x):
    """A little of everything that the models are made of."""
    h = ops.silu(ops.group_norm(x, w("norm", (16,)), w("norm", (16,)), 4, 1e-5))
    h = ops.conv2d(h, w("conv", (16, 16, 3, 3)), w("norm", (16,)), padding=(1, 1, 1, 1))
    tokens = ops.transpose(ops.reshape(x + h, (2, 16, 64)), (0, 2, 1))
    q, k, v = (
        ops.transpose(ops.reshape(ops.linear(tokens, w(name, (16, 16))), (2, 64, 2, 8)), (0, 2, 1, 3))
        for name in "qkv"
    )
    return ops.attention(q, k, v)


def weights(rng, dtype=np.float32):
    shapes = {"norm": (16,), "conv": (16, 16, 3, 3), "q": (16, 16), "k": (16, 16), "v": (16, 16)}
    return {name: (rng.standard_normal(shape) / 4).astype(dtype) for name, shape in shapes.items()}


def relative(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def test_a_block_agrees_with_the_reference(rng):
    tensors, x = weights(rng), rng.standard_normal((2, 16, 8, 8), dtype=np.float32)
    expected = compile_on(NumpyEngine(), block, tensors, x.shape)(x=x)
    actual = compile_on(OpenVinoEngine(threads=1), block, tensors, x.shape)(x=x)
    assert relative(actual, expected) < 1e-5


@bf16_only
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_bf16_loses_about_its_three_digits_and_no_more(rng, dtype):
    tensors, x = weights(rng, dtype), rng.standard_normal((2, 16, 8, 8), dtype=np.float32)
    expected = compile_on(NumpyEngine(), block, tensors, x.shape)(x=x)
    actual = compile_on(OpenVinoEngine(precision="bf16", threads=1), block, tensors, x.shape)(x=x)
    assert actual.dtype == np.float32
    assert 1e-5 < relative(actual, expected) < 0.02  # one rounding is 2**-9; nearer than 1e-5 were f32


def kernels(compiled):
    return [
        node.get_rt_info()["layerType"].astype(str) for node in compiled.model.get_runtime_model().get_ops()
    ]


def test_attention_is_fused_so_that_its_matrix_of_scores_is_never_stored(rng):
    found = kernels(compile_on(OpenVinoEngine(threads=1), block, weights(rng), (2, 16, 8, 8)))
    assert found.count("FullyConnected") == 3  # query, key, value; seen at all, so the names are right
    assert "Softmax" not in found
    assert "MatMul" not in found


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_weights_made_while_binding_outlive_the_call(rng, dtype):
    class Adapted(dict):  # as a LoRA view does: each look-up computes a new array
        def get(self, name, default=None):
            return (super().get(name).astype(np.float32) * 2).astype(dtype)

    tensors = {"weight": rng.standard_normal((256, 256)).astype(dtype)}
    x = rng.standard_normal((1, 256), dtype=np.float32)

    def function(ops, w, x):
        return ops.linear(x, w("weight", (256, 256)))

    compiled = compile_on(OpenVinoEngine(threads=1), function, Adapted(tensors), x.shape)
    rubble = [rng.standard_normal((256, 256)) for _ in range(50)]  # would lie where freed arrays were
    expected = x @ tensors["weight"].astype(np.float32).T * 2
    assert relative(compiled(x=x), expected) < 1e-5
    assert len(rubble) == 50


def test_read_only_weights_are_accepted(rng):
    tensors, x = weights(rng), rng.standard_normal((2, 16, 8, 8), dtype=np.float32)
    expected = compile_on(OpenVinoEngine(threads=1), block, tensors, x.shape)(x=x)
    for array in tensors.values():
        array.flags.writeable = False
    np.testing.assert_array_equal(
        compile_on(OpenVinoEngine(threads=1), block, tensors, x.shape)(x=x), expected
    )


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.float64])
def test_other_number_types_keep_their_values(rng, dtype):
    weight = rng.standard_normal((8, 4)).astype(dtype)
    compiled = compile_on(
        OpenVinoEngine(threads=1), lambda ops, w, x: ops.linear(x, w("w", (8, 4))), {"w": weight}, (4, 4)
    )
    np.testing.assert_array_equal(compiled(x=np.eye(4)), weight.astype(np.float32).T)


def test_threads_take_turns(rng):
    tensors = weights(rng)
    compiled = compile_on(OpenVinoEngine(threads=1), block, tensors, (2, 16, 8, 8))
    pictures = [rng.standard_normal((2, 16, 8, 8), dtype=np.float32) for _ in range(8)]
    expected = [compiled(x=x) for x in pictures]
    actual = [None] * 8

    def work(i):
        for _ in range(5):
            actual[i] = compiled(x=pictures[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "x"),
        ({"x": np.zeros((2, 3)), "y": np.zeros(1)}, "y"),
        ({"x": np.zeros((3, 2))}, r"'x' is \(3, 2\); the graph takes \(2, 3\)"),
    ],
)
def test_wrong_inputs_are_named(arrays, message):
    compiled = compile_on(OpenVinoEngine(threads=1), lambda ops, w, x: x + 1, {}, (2, 3))
    with pytest.raises(ValueError, match=message):
        compiled(**arrays)


def test_an_unknown_device_is_refused_with_those_that_are_there():
    with pytest.raises(InvalidRequest, match=r"'abacus'.*one of: cpu"):
        OpenVinoEngine("abacus")


@pytest.mark.parametrize(
    ("device", "precisions", "best"),
    [
        ("cpu", ("f32",), "f32"),
        ("cpu", ("f32", "bf16"), "bf16"),
        ("cpu", ("f32", "f16"), "f32"),
        ("cpu", ("f32", "bf16", "f16"), "bf16"),
        ("gpu", ("f32", "f16"), "f16"),
    ],
)
def test_the_best_precision_is_one_that_is_native(device, precisions, best):
    assert DeviceFeatures(device, "a processor", precisions).best_precision == best


def test_this_processor():
    features = device_features()
    assert features.device == "cpu"
    assert features.name
    assert "f32" in features.precisions
    OpenVinoEngine(precision=features.best_precision)


def test_nodes_refuse_what_is_neither_node_nor_number():
    engine = OpenVinoEngine(threads=1)
    with pytest.raises((TypeError, ValueError)):
        compile_on(engine, lambda ops, w, x: x + "one", {}, (2,))
    assert Node.__array_ufunc__ is None
