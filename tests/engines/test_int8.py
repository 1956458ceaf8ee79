"""8-bit products on the OpenVINO engine, computed by its kernels."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from pochade.engines import openvino_int8
from pochade.engines.cpu_features import sums_bytes_in_int32
from pochade.engines.numpy import NumpyEngine
from pochade.engines.openvino import OpenVinoEngine
from pochade.engines.openvino_int8 import Int8Ops
from pochade.engines.openvino_ops import Constants, build
from pochade.engines.openvino_rounded import bytes_of_rounded, read_rounded, write_rounded
from pochade.int8 import ALL_BITS, SAFE_BITS, Observations, grid, round_weight
from pochade.weights import View

LARGEST = ALL_BITS if sums_bytes_in_int32() else SAFE_BITS
SMOOTHING = np.linspace(0.5, 2, 16).astype(np.float32)


def linear(ops, w, x):
    return ops.linear(x, w("weight", (24, 16)), w("bias", (24,)))


def conv(ops, w, x):
    return ops.conv2d(x, w("weight", (24, 16, 3, 3)), w("bias", (24,)), padding=(1, 1, 1, 1))


def strided(ops, w, x):
    return ops.conv2d(x, w("weight", (24, 16, 3, 3)), w("bias", (24,)), stride=2, padding=(1, 1, 1, 1))


def doubled(ops, w, x):
    return ops.conv2d_doubled(x, w("weight", (24, 16, 3, 3)), w("bias", (24,)))


def conv_of_a_large_picture(ops, w, x):
    """More numbers than the kernel has, so that its input keeps an offset."""
    return conv(ops, w, x)


def conv_of_single_places(ops, w, x):
    return ops.conv2d(x, w("weight", (24, 16, 1, 1)), w("bias", (24,)))


def conv_without_bias(ops, w, x):
    return ops.conv2d(x, w("weight", (24, 16, 3, 3)), None, padding=(1, 1, 1, 1))


KINDS = {
    conv_of_a_large_picture: ((24, 16, 3, 3), (2, 16, 15, 17)),
    conv_of_single_places: ((24, 16, 1, 1), (2, 16, 4, 4)),
    conv_without_bias: ((24, 16, 3, 3), (2, 16, 9, 7)),
    linear: ((24, 16), (2, 50, 16)),
    conv: ((24, 16, 3, 3), (2, 16, 9, 7)),
    strided: ((24, 16, 3, 3), (2, 16, 9, 7)),
    doubled: ((24, 16, 3, 3), (2, 16, 9, 7)),
}


def relative(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def case(rng, function):
    shape, of_x = KINDS[function]
    tensors = {
        "weight": (rng.standard_normal(shape) / 4).astype(np.float32),
        "bias": rng.standard_normal(24).astype(np.float32),
    }
    x = rng.standard_normal(of_x).astype(np.float32)
    return tensors, np.where(x < 0, x / 8, x)  # lopsided, as after SiLU


def axis_last(x, function):
    return x if function is linear else np.moveaxis(x, 1, -1)


def grids(x, function):
    smooth = axis_last(x, function) / SMOOTHING
    return {"weight": grid(float(smooth.min()), float(smooth.max()), SMOOTHING)}


def as_rounded(tensors, x, function, found):
    """Weights and input with what is left of them on their grids, to be multiplied exactly."""
    each = found["weight"]
    rounded, steps = round_weight(tensors["weight"], each.smoothing, LARGEST)
    beside = (1,) * (tensors["weight"].ndim - 2)
    weight = rounded * steps / each.smoothing.reshape(1, -1, *beside)
    left = each.rounded(axis_last(x, function))
    return {**tensors, "weight": weight}, left if function is linear else np.moveaxis(left, -1, 1)


@pytest.mark.parametrize("function", [kind for kind in KINDS if kind is not doubled])
def test_a_product_of_bytes_is_the_product_of_the_rounded_numbers(rng, function):
    tensors, x = case(rng, function)
    found, inputs = grids(x, function), {"x": (x.shape, "f32")}
    actual = OpenVinoEngine(threads=1).quantized(found).compile(function, tensors, inputs)(x=x)
    weights, left = as_rounded(tensors, x, function, found)
    expected = NumpyEngine().compile(function, weights, inputs)(x=left)
    assert relative(actual, expected) < 1e-3  # an input at the middle of two bytes may go either way


# A larger picture reaches further out, and its grid is wider: held to its rounded numbers above.
@pytest.mark.parametrize("function", [kind for kind in KINDS if kind is not conv_of_a_large_picture])
def test_it_is_near_the_exact_product_and_not_the_same(rng, function):
    tensors, x = case(rng, function)
    inputs = {"x": (x.shape, "f32")}
    engine = OpenVinoEngine(threads=1).quantized(grids(x, function))
    actual = engine.compile(function, tensors, inputs)(x=x)
    exact = NumpyEngine().compile(function, tensors, inputs)(x=x)
    assert 1e-4 < relative(actual, exact) < 2 / LARGEST  # normal weights reach about four times their spread


@pytest.mark.parametrize("function", list(KINDS))
def test_the_kernels_multiply_bytes(rng, function):
    tensors, x = case(rng, function)
    engine = OpenVinoEngine(threads=1).quantized(grids(x, function))
    compiled = engine.compile(function, tensors, {"x": (x.shape, "f32")})
    kernels = [
        str(node.get_rt_info()["primitiveType"].astype(str)).lower()
        for node in compiled.model.get_runtime_model().get_ops()
        if node.get_rt_info()["layerType"].astype(str) in ("Convolution", "FullyConnected")
    ]
    assert kernels and all("i8" in kernel for kernel in kernels)


def test_linear_layers_give_the_same_as_matrices_and_as_convolutions(rng):
    tensors, x = case(rng, linear)
    results = []
    for as_convolutions in (False, True):
        constants = Constants()
        ops = Int8Ops(grids(x, linear), SAFE_BITS, constants, as_convolutions=as_convolutions)
        graph = build(linear, View(tensors, bind=ops.bind), {"x": (x.shape, "f32")}, ops)
        kinds = {node.get_type_name() for node in graph.get_ops()}
        assert ("Convolution" in kinds, "MatMul" in kinds) == (as_convolutions, not as_convolutions)
        results.append(OpenVinoEngine(threads=1).compile_graph(graph)([x])[0])
    assert relative(*results) < 1e-5


def test_products_without_a_grid_stay_as_they_are(rng):
    tensors, x = case(rng, conv)
    inputs = {"x": (x.shape, "f32")}
    engine = OpenVinoEngine(threads=1)
    named_otherwise = engine.quantized({"other": grids(x, conv)["weight"]})
    expected = engine.compile(conv, tensors, inputs)(x=x)
    assert np.array_equal(named_otherwise.compile(conv, tensors, inputs)(x=x), expected)


@pytest.mark.parametrize("function", list(KINDS))
def test_what_products_read_is_noted_and_nothing_else_changes(rng, function):
    tensors, x = case(rng, function)
    inputs, observations = {"x": (x.shape, "f32")}, Observations()
    run = OpenVinoEngine(threads=1).observing(observations).compile(function, tensors, inputs)
    exact = NumpyEngine().compile(function, tensors, inputs)(x=x)
    assert relative(run(x=x), exact) < 1e-5
    run(x=2 * x)
    (seen,) = observations.values()
    last = axis_last(x, function).reshape(-1, 16)
    np.testing.assert_allclose(seen.low, 2 * last.min(axis=0), rtol=1e-6)
    np.testing.assert_allclose(seen.high, 2 * last.max(axis=0), rtol=1e-6)
    assert list(seen.weights) == ["weight"] and seen.weights["weight"] is not None
    assert len(seen.rows) == 2
    known = {tuple(row) for row in last.astype(seen.rows[0].dtype).tolist()}
    assert all(tuple(row) in known for row in seen.rows[0].tolist())


def test_products_that_read_the_same_input_are_noted_together_and_single_vectors_not_at_all(rng):
    def several(ops, w, x, time):
        both = [ops.linear(x, w(name, (16, 16))) for name in ("query", "key")]
        return both[0] + both[1] + ops.linear(time, w("time", (16, 16)))

    observations = Observations()
    tensors = {name: rng.standard_normal((16, 16)).astype(np.float32) for name in ("query", "key", "time")}
    inputs = {"x": ((1, 5, 16), "f32"), "time": ((1, 16), "f32")}
    run = OpenVinoEngine(threads=1).observing(observations).compile(several, tensors, inputs)
    run(x=np.ones((1, 5, 16)), time=np.ones((1, 16)))
    assert list(observations) == [("query", "key")]


def test_rows_of_a_weight_have_a_name_of_their_own(rng):
    def half(ops, w, x):
        return ops.linear(x, w("weight", (32, 16), rows=slice(16, 32)))

    observations = Observations()
    tensors = {"weight": rng.standard_normal((32, 16)).astype(np.float32)}
    inputs = {"x": ((1, 5, 16), "f32")}
    OpenVinoEngine(threads=1).observing(observations).compile(half, tensors, inputs)(x=np.ones((1, 5, 16)))
    assert list(observations) == [("weight[16:32]",)]


@pytest.mark.parametrize("function", [linear, doubled])
def test_rounded_weights_may_wait_in_files(rng, tmp_path: Path, monkeypatch, function):
    """Where memory is short, and where the folder takes none they stay in memory."""
    tensors, x = case(rng, function)
    inputs, found = {"x": (x.shape, "f32")}, grids(x, function)
    monkeypatch.setattr("pochade.engines.openvino_int8.LARGE", 1)
    expected = OpenVinoEngine(threads=1).quantized(found).compile(function, tensors, inputs)(x=x)
    moved = []
    original = openvino_int8.moved_to_file
    monkeypatch.setattr(
        openvino_int8, "moved_to_file", lambda *given: moved.append(given) or original(*given)
    )
    for cache in (tmp_path, tmp_path / "again"):
        engine = OpenVinoEngine(threads=1, cache_dir=cache).quantized(found)
        np.testing.assert_array_equal(engine.compile(function, tensors, inputs, key="x")(x=x), expected)
        assert moved and all(path.suffix == ".blob" for path in (cache / "openvino").iterdir())

    def full(*_):
        raise OSError("no space")

    monkeypatch.setattr(openvino_int8, "moved_to_file", full)
    engine = OpenVinoEngine(threads=1, cache_dir=tmp_path / "full").quantized(found)
    np.testing.assert_array_equal(engine.compile(function, tensors, inputs, key="x")(x=x), expected)


def test_compiled_graphs_of_other_grids_are_others(rng, tmp_path: Path):
    tensors, x = case(rng, conv)
    inputs = {"x": (x.shape, "f32")}
    engine = OpenVinoEngine(threads=1, cache_dir=tmp_path)
    for found in ({}, grids(x, conv), grids(2 * x, conv)):
        engine.quantized(found).compile(conv, tensors, inputs, key="a model")(x=x)
    assert len(list((tmp_path / "openvino").glob("*.blob"))) == 3


@pytest.mark.parametrize(
    ("machine", "flags", "widely"),
    [
        ("x86_64", "fpu avx2 avx512_vnni", True),
        ("AMD64", "fpu avx_vnni", True),
        ("x86_64", "fpu avx2 avx512f", False),
        ("x86_64", None, False),
        ("aarch64", None, True),
    ],
)
def test_where_bytes_are_summed_in_few_bits_weights_are_smaller(tmp_path: Path, machine, flags, widely):
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"processor : 0\nflags\t\t: {flags}\nbugs : none\n")
    assert sums_bytes_in_int32(machine, cpuinfo) is widely


# --- rounded weights on the disk --------------------------------------------------------------------------


@pytest.mark.parametrize("function", [linear, conv, doubled])
@pytest.mark.parametrize("keep_later", [False, True])
def test_another_size_of_the_same_weights_rounds_nothing(
    rng, tmp_path: Path, monkeypatch, function, keep_later
):
    tensors, x = case(rng, function)
    found, other = grids(x, function), x[:1]
    expected = OpenVinoEngine(threads=1).quantized(found)
    expected = expected.compile(function, tensors, {"x": (other.shape, "f32")})(x=other)

    def engine():
        plain = OpenVinoEngine(threads=1, cache_dir=tmp_path, keep_later=keep_later)
        return plain.quantized(found)

    keys = {"key": "function and weights", "weights_key": "weights"}
    first = engine().compile(function, tensors, {"x": (x.shape, "f32")}, **keys)
    first(x=x)
    first.wait_stored()
    assert len(list((tmp_path / "openvino").glob("*.blob"))) == 2, "the graph, and the weights"
    monkeypatch.setattr(openvino_int8, "round_weight", lambda *_: pytest.fail("it was rounded before"))
    again = engine().compile(function, tensors, {"x": (other.shape, "f32")}, **keys)
    np.testing.assert_array_equal(again(x=other), expected)
    again.wait_stored()
    assert len(list((tmp_path / "openvino").glob("*.blob"))) == 3


def test_rounded_weights_of_other_grids_and_other_weights_are_others(rng, tmp_path: Path):
    tensors, x = case(rng, conv)
    engine = OpenVinoEngine(threads=1, cache_dir=tmp_path)
    inputs = {"x": (x.shape, "f32")}
    others = {name: 2 * array for name, array in tensors.items()}
    cases = (
        (tensors, "a", grids(x, conv)),
        (tensors, "a", grids(2 * x, conv)),
        (others, "b", grids(x, conv)),
    )
    for tensors, key, found in cases:
        result = engine.quantized(found).compile(conv, tensors, inputs, key=key, weights_key=key)(x=x)
        plain = OpenVinoEngine(threads=1).quantized(found).compile(conv, tensors, inputs)(x=x)
        np.testing.assert_array_equal(result, plain)
    assert len(list((tmp_path / "openvino").glob("*.blob"))) == 6


@pytest.mark.parametrize("content", [b"", b"\x05", (2**60).to_bytes(8, "little"), b"\x02" + bytes(7) + b"{["])
def test_damaged_rounded_weights_are_refused(content):
    with pytest.raises(ValueError):
        read_rounded(np.frombuffer(content, np.uint8))


def test_rounded_weights_come_back_as_they_were_written(rng):
    weights = {}
    for name, shape in {"a": (3, 5), "b 0 1": (4, 2, 3, 3), "ä": (1, 1)}.items():
        weight = rng.standard_normal(shape).astype(np.float32)
        weights[name] = round_weight(weight, np.ones(shape[1], np.float32), LARGEST)
    file = BytesIO()
    write_rounded(file, weights)
    assert len(file.getvalue()) <= bytes_of_rounded(weights)
    found = read_rounded(np.frombuffer(file.getvalue(), np.uint8))
    assert found.keys() == weights.keys()
    for name, arrays in weights.items():
        for ours, theirs in zip(arrays, found[name], strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype
