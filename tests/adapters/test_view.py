"""Adapters as a view of the weights."""

import tracemalloc
from itertools import permutations
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from pochade.adapters.deltas import (
    BLOCK,
    Delta,
    DoraDelta,
    FullDelta,
    Hadamard,
    Kronecker,
    LowRank,
    RowSlice,
    blocks,
)
from pochade.adapters.embeddings import TABLE, ExtendedEmbedding
from pochade.adapters.view import WeightedDeltas, adapted, fingerprint
from pochade.checkpoints import safetensors


def strength(seed: int, weight: float = 1.0, name: str = "a") -> WeightedDeltas:
    rng = np.random.default_rng(seed)
    up, down = rng.standard_normal((5, 2), np.float32), rng.standard_normal((2, 4), np.float32)
    return WeightedDeltas({name: LowRank(up, down, 0.3)}, weight, f"file {seed}")


def base(dtype: object = np.float32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal((5, 4), np.float32).astype(dtype) for name in "ab"}


def test_only_what_is_touched_is_computed() -> None:
    tensors = base()
    result = adapted(tensors, [strength(1)])
    assert list(result) == ["a", "b"] and len(result) == 2
    assert result["b"] is tensors["b"]
    assert not np.array_equal(result["a"], tensors["a"])


def test_nothing_to_add_is_the_same_mapping() -> None:
    tensors = base()
    assert adapted(tensors, []) is tensors
    assert adapted(tensors, [strength(1, weight=0.0)]) is tensors


def test_the_stored_weights_are_never_written_to(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.write(path, base())
    bytes_before, tensors = path.read_bytes(), safetensors.read(path)
    before = {name: tensors[name].copy() for name in tensors}
    adapted(tensors, [strength(1, 5.0)])["a"][:] = 0
    for name, tensor in before.items():
        assert np.array_equal(adapted(tensors, [])[name], tensor)
    assert path.read_bytes() == bytes_before


def test_the_order_makes_no_difference_to_the_bit() -> None:
    given = [strength(seed, weight) for seed, weight in ((1, 0.7), (2, -1.3), (3, 0.1), (4, 2.0))]
    results = {adapted(base(), order)["a"].tobytes() for order in permutations(given)}
    assert len(results) == 1


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_a_narrow_type_is_rounded_once(dtype: object) -> None:
    tensors, given = base(dtype), [strength(seed, 0.01) for seed in range(6)]
    result = adapted(tensors, given)["a"]
    exact = tensors["a"].astype(np.float64)
    for each in given:
        delta = each.deltas["a"]
        exact += each.weight * 0.3 * (delta.up.astype(np.float64) @ delta.down)
    assert result.dtype == dtype
    wrong = result != exact.astype(np.float32).astype(dtype)
    assert wrong.sum() <= 1  # f32 sums may end on the other side of a tie


def test_a_fingerprint_for_each_choice_of_adapters() -> None:
    choices = [
        [],
        [strength(1)],
        [strength(1, 0.5)],
        [strength(2)],
        [strength(1), strength(2)],
        [strength(1), strength(2, 0.5)],
    ]
    assert len({fingerprint("base", each) for each in choices}) == len(choices)
    assert fingerprint("base", []) == "base"
    assert fingerprint("other", [strength(1)]) != fingerprint("base", [strength(1)])
    two = [strength(1), strength(2)]
    assert fingerprint("base", two) == fingerprint("base", two[::-1])


def large_deltas(shape: tuple[int, ...]) -> dict[str, Delta]:
    """Of every kind, for a weight of this shape, whose sides are even."""
    rng = np.random.default_rng(1)
    outputs, columns = shape[0], int(np.prod(shape[1:]))

    def some(*sides: int) -> np.ndarray:
        return rng.standard_normal(sides, np.float32)

    plain = LowRank(some(outputs, 4), some(4, columns), 0.3)
    return {
        "LoRA": plain,
        "LoHa": Hadamard(plain, LowRank(some(outputs, 3), some(3, columns), 1.0), 0.2),
        "LoKr": Kronecker(
            FullDelta(some(2, 2)), LowRank(some(outputs // 2, 3), some(3, columns // 2), 1.0), 0.2
        ),
        "difference": FullDelta(some(*shape)),
        "part": RowSlice(LowRank(some(2 * outputs, 4), some(4, columns), 0.3), 5, 5 + outputs, columns),
        "DoRA": DoraDelta(plain, some(outputs), of_outputs=True),
        "DoRA of inputs": DoraDelta(plain, some(shape[1]), of_outputs=False),
    }


SHAPE = (1500, 320, 3, 3)


@pytest.mark.parametrize("kind", large_deltas((8, 4, 3, 3)))
def test_a_sum_needs_no_further_memory_of_the_weight_s_size(kind: str) -> None:
    """Beside the result there are blocks of rows, and factors of low rank."""
    delta = large_deltas(SHAPE)[kind]
    tensors = {"a": np.random.default_rng(2).standard_normal(SHAPE, np.float32)}
    view = adapted(
        tensors, [WeightedDeltas({"a": delta}, 0.7, "one"), WeightedDeltas({"a": delta}, 0.1, "two")]
    )
    tracemalloc.start()
    try:
        result = view["a"]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(list(blocks(result))) > 10
    assert result.nbytes <= peak < result.nbytes + 40 * BLOCK


def test_blocks_of_rows_make_up_the_weight() -> None:
    for shape in ((1,), (7,), (5, 4), (3, BLOCK), (2 * BLOCK,), (1000, 320, 3, 3), (0, 4)):
        found = list(blocks(np.empty(shape, np.int8)))
        assert [row for begin, end in found for row in range(begin, end)] == list(range(shape[0]))
        assert all((end - begin) * np.prod(shape[1:]) <= BLOCK or end - begin == 1 for begin, end in found)


def test_one_number_is_added_to() -> None:
    result = adapted(
        {"a": np.float32(2).reshape(())},
        [WeightedDeltas({"a": FullDelta(np.ones((), np.float32))}, 0.5, "x")],
    )
    assert result["a"].shape == () and result["a"] == 2.5


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_what_is_added_to_8_bit_weights_is_not_rounded_away(dtype: object) -> None:
    """A change of 2 in 100 is smaller than the steps of 8 bits."""
    base = np.array([[1.0, -2.0], [4.0, 0.5]]).astype(dtype)
    change = FullDelta(np.float32([[0.02, 0.04], [-0.08, 0.01]]))
    view = adapted({"w": base, "other": base}, [WeightedDeltas({"w": change}, 1.0, "a")])
    np.testing.assert_allclose(view["w"].astype(np.float32), [[1.02, -1.96], [3.92, 0.51]], rtol=2**-11)
    assert view["other"] is base


def test_new_words_beside_8_bit_ones_keep_their_numbers() -> None:
    table = np.ones((3, 2)).astype(ml_dtypes.float8_e4m3fn)
    extended = ExtendedEmbedding({TABLE: table}, [np.float32([[0.013, -0.7]])])[TABLE]
    np.testing.assert_allclose(extended.astype(np.float32)[3], [0.013, -0.7], rtol=2**-10)
    np.testing.assert_array_equal(extended[:3].astype(np.float32), 1)
