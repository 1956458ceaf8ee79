"""8-bit grids: representable values and rounding errors."""

import numpy as np
import pytest

from pochade.int8 import ALL_BITS, SAFE_BITS, Grid, digest, grid, round_weight

EVEN = np.ones(4, np.float32)


@pytest.mark.parametrize(("low", "high"), [(-0.28, 7.3), (-5.0, 5.0), (1.0, 2.0), (-3.0, -1.0)])
def test_a_grid_holds_zero_exactly_and_both_ends_nearly(low: float, high: float) -> None:
    found = grid(low, high, EVEN)
    zero = -found.low / found.step
    assert abs(zero - round(zero)) < 1e-9
    assert found.low <= min(low, 0) + found.step
    assert found.high >= max(high, 0) - found.step


def test_an_input_that_is_always_zero_has_a_grid_too() -> None:
    assert np.array_equal(grid(0.0, 0.0, EVEN).rounded(np.zeros((2, 4))), np.zeros((2, 4)))


def test_a_number_on_the_grid_is_off_by_half_a_step_at_most(rng: np.random.Generator) -> None:
    x = rng.uniform(-2, 6, (100, 4)).astype(np.float32)
    found = grid(-2.0, 6.0, EVEN)
    off = np.abs(found.rounded(x) - x)
    assert off.max() <= found.step * 1.01  # at the ends, which moved for the zero
    assert np.median(off) <= found.step / 2


def test_what_lies_beyond_the_grid_is_cut_off() -> None:
    assert grid(-1.0, 1.0, EVEN).rounded(np.full((1, 4), 9.0)).max() <= 1.01


def test_smoothing_gives_small_channels_finer_steps(rng: np.random.Generator) -> None:
    x = rng.standard_normal((1000, 2)).astype(np.float32) * np.float32([100, 1])
    rough = grid(float(x.min()), float(x.max()), np.ones(2, np.float32))
    smoothing = np.float32([10, 0.1])
    fine = grid(float((x / smoothing).min()), float((x / smoothing).max()), smoothing)
    errors = [np.abs(each.rounded(x) - x)[:, 1].mean() for each in (rough, fine)]
    assert errors[1] < errors[0] / 5


@pytest.mark.parametrize("largest", [ALL_BITS, SAFE_BITS])
@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3, 3)])
def test_weights_are_rounded_by_output_channel(
    rng: np.random.Generator, shape: tuple[int, ...], largest: int
) -> None:
    weight = rng.standard_normal(shape).astype(np.float32) * 10.0 ** np.arange(5).reshape(
        5, *(1,) * (len(shape) - 1)
    )
    smoothing = np.float32([1, 2, 4, 0.5])
    rounded, steps = round_weight(weight, smoothing, largest)
    smooth = weight * smoothing.reshape(1, 4, *(1,) * (len(shape) - 2))
    assert rounded.dtype == np.int8
    assert np.abs(rounded.astype(int)).reshape(5, -1).max(axis=1).tolist() == [largest] * 5
    assert (np.abs(rounded * steps - smooth) <= steps * 0.5001).all()


def test_a_channel_of_zeros_stays_zero() -> None:
    rounded, steps = round_weight(np.zeros((2, 4), np.float32), EVEN, ALL_BITS)
    assert not rounded.any() and np.isfinite(steps).all()


def test_products_of_two_pairs_of_safe_bytes_fit_in_sixteen_bits() -> None:
    assert 2 * 255 * SAFE_BITS < 2**15 <= 2 * 255 * (SAFE_BITS + 2)


def test_a_digest_names_grids() -> None:
    one, same = ({"a": Grid(-1.0, 1.0, EVEN)} for _ in range(2))
    others = ({"b": one["a"]}, {"a": Grid(-1.0, 1.5, EVEN)}, {"a": Grid(-1.0, 1.0, 2 * EVEN)}, {})
    assert digest(one) == digest(same)
    assert len({digest(each) for each in (one, *others)}) == 5
