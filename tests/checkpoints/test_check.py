"""Checks of the names and values of weights."""

import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pochade.checkpoints.check import CHUNK_BYTES, check_finite, check_names, count_not_finite
from pochade.errors import InvalidCheckpoint

FLOATS = [
    np.float16,
    np.float32,
    np.float64,
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
]


def test_matching_names_pass_and_others_are_listed() -> None:
    check_names({"a", "b"}, ["b", "a"], "unet")
    with pytest.raises(InvalidCheckpoint, match=r"'unet' do not fit .*: 1 missing: 'b'; 1 unexpected: 'c'; "):
        check_names(["a", "c"], ["a", "b"], "unet")
    with pytest.raises(InvalidCheckpoint, match=r": 7 missing: '0', '1', '2', '3', '4', \.\.\.; the file"):
        check_names([], map(str, range(7)), "unet")
    with pytest.raises(InvalidCheckpoint, match=r": 5 unexpected: '0', '1', '2', '3', '4'; the file"):
        check_names(map(str, range(5)), [], "unet")


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_bad_number_anywhere_is_found(dtype: Any, value: float) -> None:
    count = 2 * CHUNK_BYTES // np.dtype(dtype).itemsize + 5  # the last chunk is a short one
    for place in (0, count // 2, count - 1):
        tensor = np.ones(count, dtype=dtype)
        check_finite({"good": tensor}, "unet")
        tensor[place] = value
        with pytest.raises(InvalidCheckpoint, match=rf"tensor 'bad' in 'unet' has 1 of {count:,} entries"):
            check_finite({"good": np.ones(3, dtype), "bad": tensor}, "unet")


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: np.dtype(dtype).name)
def test_the_largest_and_smallest_numbers_are_numbers(dtype: Any) -> None:
    about = ml_dtypes.finfo(dtype)
    tensor = np.array([about.max, about.min, about.tiny, about.smallest_subnormal, 0, -0.0], dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_finite({"x": np.tile(tensor, (100, 1))}, "unet")


@pytest.mark.parametrize("dtype", FLOATS[:4], ids=lambda dtype: np.dtype(dtype).name)
def test_every_pattern_of_bits_is_judged_as_numpy_does(dtype: Any) -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    if np.dtype(dtype).itemsize > 2:  # the sign, exponent and first bits of the fraction
        width = np.dtype(dtype).itemsize * 8
        bits = bits.astype(f"u{width // 8}") << np.array(width - 16, f"u{width // 8}")
    numbers = bits.view(dtype)
    with np.errstate(invalid="ignore"):
        expected = np.count_nonzero(~np.isfinite(numbers))
    assert count_not_finite(numbers) == expected > 0


@given(st.lists(st.floats(width=32), max_size=50))
def test_counting_agrees_with_numpy(values: list[float]) -> None:
    numbers = np.array(values, dtype=np.float32)
    assert count_not_finite(numbers) == np.count_nonzero(~np.isfinite(numbers))


def test_other_kinds_of_tensors() -> None:
    check_finite(
        {
            "ids": np.full(3, 2**63 - 1),
            "none": np.zeros((0, 4), np.float32),
            "scalar": np.array(1.0),
            "strided": np.ones((8, 8), np.float32)[::2, ::3],
        },
        "unet",
    )
    strided = np.ones((8, 8), np.float32)
    strided[4, 3] = np.nan
    with pytest.raises(InvalidCheckpoint, match=r"'x' .* 1 of 12 entries"):
        check_finite({"x": strided[::2, ::3]}, "unet")
    strided[4, 3], strided[1, 1] = 1, np.inf  # outside the view
    check_finite({"x": strided[::2, ::3]}, "unet")
