"""The contract of `compile` for all engines."""

import ml_dtypes
import numpy as np
import pytest

from pochade.errors import InvalidCheckpoint, InvalidRequest

STORED = {
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f64": np.dtype(np.float64),
    **{
        name: np.dtype(getattr(ml_dtypes, name))
        for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
    },
}


def line(ops, w, x):
    return ops.linear(x, w("weight", (6, 4)), w("bias", (6,)))


def stored(rng, dtype=np.float32):
    return {
        "weight": rng.standard_normal((6, 4)).astype(dtype),
        "bias": rng.standard_normal(6).astype(dtype),
    }


@pytest.mark.parametrize("dtype", STORED.values(), ids=STORED)
def test_stored_numbers_are_used_as_they_are(evaluate, rng, dtype):
    tensors, x = stored(rng, dtype), rng.standard_normal((3, 4), dtype=np.float32)
    expected = x.astype(np.float64) @ tensors["weight"].astype(np.float64).T + tensors["bias"].astype(
        np.float64
    )
    actual = evaluate(line, {"x": x}, tensors)
    assert np.linalg.norm(actual - expected) < 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("dtype", STORED.values(), ids=STORED)
def test_a_convolution_with_narrow_weights(evaluate, rng, dtype):
    x = rng.standard_normal((1, 3, 5, 6), dtype=np.float32)
    kernel = rng.standard_normal((4, 3, 1, 1)).astype(dtype)
    expected = np.einsum("bchw,oc->bohw", x.astype(np.float64), kernel[:, :, 0, 0].astype(np.float64))
    actual = evaluate(lambda ops, w, x: ops.conv2d(x, w("k", (4, 3, 1, 1)), None), {"x": x}, {"k": kernel})
    assert np.linalg.norm(actual - expected) < 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("dtype", STORED.values(), ids=STORED)
def test_rows_of_a_weight(evaluate, rng, dtype):
    tensors, x = stored(rng, dtype), rng.standard_normal((3, 4), dtype=np.float32)

    def function(ops, w, x):
        rows = slice(2, 5)
        return ops.linear(x, w("weight", (6, 4), rows=rows), w("bias", (6,), rows=rows))

    expected = x.astype(np.float64) @ tensors["weight"].astype(np.float64).T + tensors["bias"].astype(
        np.float64
    )
    actual = evaluate(function, {"x": x}, tensors)
    assert actual.shape == (3, 3)
    assert np.linalg.norm(actual - expected[:, 2:5]) < 1e-6 * np.linalg.norm(expected)


def test_weights_from_a_mapped_file(evaluate, rng, tmp_path):
    tensors, x = stored(rng), rng.standard_normal((3, 4), dtype=np.float32)
    tensors["weight"].tofile(tmp_path / "weights")
    mapped = np.memmap(tmp_path / "weights", np.float32, mode="c", shape=(6, 4))
    expected = evaluate(line, {"x": x}, tensors)
    np.testing.assert_array_equal(evaluate(line, {"x": x}, {**tensors, "weight": mapped}), expected)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "weights", np.float32), tensors["weight"].ravel())


def test_weights_that_do_not_lie_in_one_piece(evaluate, rng):
    tensors, x = stored(rng), rng.standard_normal((3, 4), dtype=np.float32)
    scattered = {"weight": np.asfortranarray(tensors["weight"]), "bias": tensors["bias"].repeat(2)[::2]}
    np.testing.assert_allclose(
        evaluate(line, {"x": x}, scattered), evaluate(line, {"x": x}, tensors), rtol=1e-5, atol=1e-6
    )


def test_a_call_does_not_write_over_the_results_of_another(engine, rng):
    compiled = engine.compile(line, stored(rng), {"x": ((3, 4), "f32")})
    first = compiled(x=np.ones((3, 4), np.float32))
    kept = first.copy()
    second = compiled(x=np.zeros((3, 4), np.float32))
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(first, second)


def test_inputs_of_any_number_type_and_layout(engine, rng):
    compiled = engine.compile(line, stored(rng), {"x": ((3, 4), "f32")})
    x = rng.standard_normal((4, 3))
    np.testing.assert_array_equal(compiled(x=x.T), compiled(x=np.ascontiguousarray(x.T, np.float32)))
    assert compiled(x=x.T).dtype == np.float32


def test_a_tuple_comes_back_as_a_tuple_and_a_tensor_as_an_array(engine, describe):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    inputs = describe({"x": x})
    one = engine.compile(lambda ops, w, x: x * 2, {}, inputs)(x=x)
    single = engine.compile(lambda ops, w, x: (x * 2,), {}, inputs)(x=x)
    many = engine.compile(lambda ops, w, x: tuple(x + i for i in range(12)), {}, inputs)(x=x)
    assert isinstance(one, np.ndarray)
    assert isinstance(single, tuple) and len(single) == 1
    np.testing.assert_array_equal(one, single[0])
    assert isinstance(many, tuple)
    np.testing.assert_array_equal(many, [x + i for i in range(12)])


def test_one_node_may_be_returned_twice_and_an_input_unchanged(engine, describe):
    def function(ops, w, x):
        doubled = x * 2
        return doubled, x, doubled

    x = np.arange(4, dtype=np.float32)
    compiled = engine.compile(function, {}, describe({"x": x}))
    np.testing.assert_array_equal(compiled(x=x), [x * 2, x, x * 2])


def test_several_inputs_go_where_their_names_say(engine, rng, describe):
    table = rng.standard_normal((7, 3), dtype=np.float32)

    def function(ops, w, z, ids, a):
        return ops.embedding(ids, w("table", (7, 3))) * z - a

    arrays = {
        "a": rng.standard_normal((2, 4, 3), dtype=np.float32),
        "ids": rng.integers(0, 7, (2, 4)),
        "z": rng.standard_normal(3, dtype=np.float32),
    }
    compiled = engine.compile(function, {"table": table}, describe(arrays))
    expected = table[arrays["ids"]] * arrays["z"] - arrays["a"]
    np.testing.assert_allclose(compiled(**arrays), expected, rtol=1e-5, atol=1e-6)


def test_a_missing_weight_is_named(engine):
    with pytest.raises(InvalidCheckpoint, match="weight"):  # torch finds out when it runs
        engine.compile(line, {}, {"x": ((3, 4), "f32")})(x=np.zeros((3, 4), np.float32))


def test_a_precision_that_nobody_knows_is_refused(engine):
    with pytest.raises(InvalidRequest, match="f7"):
        type(engine)(precision="f7")


@pytest.mark.slow  # needs a C++ compiler, and takes half a minute
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_torch_compile_computes_the_same() -> None:
    from pochade.engines.torch import TorchEngine

    rng = np.random.default_rng(0)
    weight = rng.standard_normal((8, 6), np.float32)

    def model(ops, w, x):
        return ops.silu(ops.linear(x, w("weight", (8, 6))))

    call = TorchEngine(compiled=True).compile(model, {"weight": weight}, {"x": ((2, 6), "f32")})
    x = rng.standard_normal((2, 6), np.float32)
    y = x @ weight.T
    assert np.allclose(call(x=x), y / (1 + np.exp(-y)), atol=1e-5)
