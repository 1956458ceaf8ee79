"""Quantiles of the symmetric beta distribution, for the Beta schedule, without scipy."""

import math

import numpy as np
from numpy.typing import NDArray


def beta_quantile(shares: NDArray[np.float64], shape: float) -> NDArray[np.float64]:
    """Return the quantiles of a Beta(shape, shape) distribution at these shares; 0 -> 0, 1 -> 1.

    Bisection on the lower half; the upper half is its mirror image. Absolute error below 1e-12.
    """
    lower = np.minimum(shares, 1 - shares)
    low, high = np.zeros_like(lower), np.full_like(lower, 0.5)
    for _ in range(60):
        middle = (low + high) / 2
        below = _distribution(middle, shape) < lower
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    quantile = np.where(lower == 0, 0.0, high)
    return np.where(shares > 0.5, 1 - quantile, quantile)


def _distribution(x: NDArray[np.float64], shape: float) -> NDArray[np.float64]:
    """Return the regularized incomplete beta function I_x(shape, shape) for x in 0..1/2.

    The density's binomial series, integrated term by term. At x <= 1/2 and for shapes in (0, 1] each term is
    less than half the one before.
    """
    total, factor = np.zeros_like(x), 1.0
    for k in range(50):
        total += factor * x**k / (shape + k)
        factor *= (k + 1 - shape) / (k + 1)
    share: NDArray[np.float64] = total * x**shape * math.gamma(2 * shape) / math.gamma(shape) ** 2
    return share
