"""Distances between and within sets of points."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from pochade.evaluation.frechet import frechet, main_axes, mean_distance

RNG = np.random.default_rng(0)


def test_equal_sets_are_at_no_distance_and_a_shift_counts_squared() -> None:
    points = RNG.standard_normal((50, 6))
    assert frechet(points, points) == pytest.approx(0, abs=1e-9)
    assert frechet(points, points + 0.5) == pytest.approx(6 * 0.25)


def test_frechet_is_the_formula_with_scipy_s_root() -> None:
    one = RNG.standard_normal((80, 5)) @ RNG.standard_normal((5, 5))
    other = RNG.standard_normal((60, 5)) @ RNG.standard_normal((5, 5)) + 0.3
    c1, c2 = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    expected = np.square(one.mean(0) - other.mean(0)).sum() + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    assert frechet(one, other) == pytest.approx(expected)
    assert frechet(other, one) == pytest.approx(expected)


def test_the_main_axes_are_where_points_vary_most() -> None:
    points = RNG.standard_normal((500, 4)) * (0.1, 5, 1, 0.2)
    axes = main_axes(points, 2)
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-9)
    assert abs(axes[1, 0]) > 0.99
    assert abs(axes[2, 1]) > 0.9


def test_mean_distance_is_over_all_pairs() -> None:
    points = RNG.standard_normal((7, 5))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    pairs = [1 - points[i] @ points[j] for i in range(7) for j in range(i)]
    assert mean_distance(points) == pytest.approx(np.mean(pairs))
    assert mean_distance(np.ones((3, 1))) == pytest.approx(0)
