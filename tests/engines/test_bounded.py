"""Inputs with bounded dimensions: one graph for texts of all lengths."""

import numpy as np
import pytest

from pochade.engines.cpu_features import sums_bytes_in_int32
from pochade.engines.numpy import NumpyEngine
from pochade.engines.openvino import OpenVinoEngine
from pochade.engines.openvino_ops import fits
from pochade.int8 import grid
from tests.reference import relative_error

SHAPES = {"to_q": (16, 16), "to_k": (16, 12), "to_v": (16, 12), "out": (16, 16)}


def attends(ops, w, x, context):
    """Cross-attention as the UNet has it."""

    def heads(tokens, name):
        y = ops.linear(tokens, w(name, SHAPES[name]))
        batch, count, width = ops.shape(y)
        return ops.transpose(ops.reshape(y, (batch, count, 2, width // 2)), (0, 2, 1, 3))

    y = ops.attention(heads(x, "to_q"), heads(context, "to_k"), heads(context, "to_v"))
    y = ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (2, 9, 16))
    return x + ops.linear(y, w("out", (16, 16)))


@pytest.mark.parametrize("eight_bits", [False, True])
def test_one_graph_serves_all_lengths(rng, eight_bits, tmp_path):
    tensors = {name: rng.standard_normal(shape, np.float32) / 4 for name, shape in SHAPES.items()}
    engine = OpenVinoEngine(threads=1, cache_dir=tmp_path)
    if eight_bits:
        smoothing = {"to_q": 16, "to_k": 12, "to_v": 12, "out": 16}
        grids = {n: grid(-4, 4, rng.uniform(0.5, 2, c).astype(np.float32)) for n, c in smoothing.items()}
        grids["to_v"] = grids["to_k"]
        engine = engine.quantized(grids)
    # Without instructions for bytes, weights have 7 bits instead of 8, and the largest error is 0.034.
    bound = 1e-5 if not eight_bits else 0.03 if sums_bytes_in_int32() else 0.04
    inputs = {"x": ((2, 9, 16), "f32"), "context": ((2, -21, 12), "f32")}
    made = engine.compile(attends, tensors, inputs)
    kept = engine.compile(attends, tensors, inputs, key="a")  # from the disk already, where it was written
    assert kept.restored and not made.restored
    x = rng.standard_normal((2, 9, 16), np.float32)
    for length in (7, 21, 1, 14, 7):
        context = rng.standard_normal((2, length, 12), np.float32)
        arrays = {"x": x, "context": context}
        shapes = {name: (array.shape, "f32") for name, array in arrays.items()}
        expected = NumpyEngine().compile(attends, tensors, shapes)(**arrays)
        for graph in (made, kept):
            assert relative_error(graph(**arrays), expected) < bound
    with pytest.raises(ValueError, match=r"'context' is \(2, 22, 12\); the graph takes \(2, -21, 12\)"):
        made(x=x, context=np.zeros((2, 22, 12), np.float32))


def test_what_fits():
    assert fits((2, 3), (2, 3)) and fits((2, 3), (2, -3)) and fits((2, 1), (2, -3)) and fits((), ())
    assert not any(fits(given, (2, -3)) for given in ((2, 4), (2, 0), (1, 3), (2,), (2, 3, 1)))
