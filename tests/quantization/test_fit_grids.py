"""Fitting grids to input statistics, and their reported errors."""

import numpy as np
import pytest

from pochade.int8 import InputStatistics
from pochade.quantization.fit_grids import SENSITIVE, error, fit, worst


def seen(rng: np.random.Generator, scale: np.ndarray, weight: np.ndarray | None = None) -> InputStatistics:
    rows = (rng.standard_normal((400, len(scale))) * scale).astype(np.float32)
    weight = rng.standard_normal((32, len(scale))).astype(np.float32) if weight is None else weight
    watched = InputStatistics({"weight": weight}, rows.min(axis=0), rows.max(axis=0))
    watched.see(rows.min(axis=0), rows.max(axis=0), rows)
    return watched


def test_all_products_of_an_input_share_a_grid(rng):
    watched = seen(rng, np.ones(16))
    watched.weights = {"q": watched.weights["weight"], "k": 3 * watched.weights["weight"]}
    table = fit({("q", "k"): watched})
    assert table["q"].grid is table["k"].grid


def test_the_grid_holds_all_that_was_seen(rng):
    watched = seen(rng, np.linspace(0.1, 10, 16))
    found = fit({("weight",): watched})["weight"].grid
    assert (watched.high / found.smoothing <= found.high + found.step).all()
    assert (watched.low / found.smoothing >= found.low - found.step).all()


def test_smoothing_helps_where_channels_differ(rng):
    watched = seen(rng, np.geomspace(0.01, 10, 64), rng.standard_normal((32, 64)).astype(np.float32) / 4)
    watched.weights = {"weight": watched.weights["weight"] / np.geomspace(0.01, 10, 64)}
    plain, some, half = (fit({("weight",): watched}, share)["weight"].error for share in (0, 0.25, 0.5))
    assert half < some < plain


@pytest.mark.parametrize("shape", [(32, 16), (32, 16, 3, 3)])
def test_the_error_is_that_of_the_outputs(rng, shape):
    """Against the same product computed by hand; a 3x3 kernel counts as nine products."""
    watched = seen(rng, np.ones(16), rng.standard_normal(shape).astype(np.float32))
    weight, rows = watched.weights["weight"], watched.rows[0]
    found = fit({("weight",): watched}, 0)["weight"]
    places = weight.reshape(32, 16, -1)
    exact = np.einsum("ni,oip->nop", rows, places)
    steps = np.abs(places).max(axis=(1, 2), keepdims=True) / 127
    off = np.einsum("ni,oip->nop", found.grid.rounded(rows), np.rint(places / steps) * steps)
    expected = np.sqrt(np.square(off - exact).mean() / np.square(exact).mean())
    assert error(rows, weight, found.grid) == pytest.approx(expected, rel=0.1)
    assert 0.001 < found.error < 0.03


def test_a_product_with_a_large_error_is_left_alone(rng):
    scale = np.full(16, 0.01)
    scale[3] = 100
    weight = rng.standard_normal((32, 16)).astype(np.float32)
    weight[:, 3] = 1e-6  # one huge channel that the outputs hardly hear
    found = fit({("weight",): seen(rng, scale, weight)}, 0)["weight"]
    assert found.error > SENSITIVE
    assert not found.used


def test_dead_channels_and_dead_inputs_are_no_trouble(rng):
    for scale in (np.zeros(16), np.arange(16.0)):
        found = fit({("weight",): seen(rng, scale)})["weight"]
        assert np.isfinite(found.grid.smoothing).all() and (found.grid.smoothing > 0).all()
        assert np.isfinite(found.error)


def test_the_worst_come_first(rng):
    observations = {(name,): seen(rng, np.geomspace(1, 10**i, 16)) for i, name in enumerate("abc")}
    for (name,), watched in observations.items():
        watched.weights = {name: watched.weights["weight"]}
    table = fit(observations)
    errors = [each.error for _, each in worst(table, 2)]
    assert errors == sorted((each.error for each in table.values()), reverse=True)[:2]
