"""Align Your Steps (Sabour et al. 2024): tables of noise levels that minimise a bound of the error."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

STABLE_DIFFUSION = 14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029
STABLE_DIFFUSION_XL = 14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029
"""Sigmas of eleven levels, as the authors published them."""


def align_your_steps(
    table: Sequence[float], sigma_max: float, sigma_min: float, steps: int
) -> NDArray[np.float64]:
    """Return (steps,) decreasing noise levels, interpolated log-linearly from a table, sigma_max to
    sigma_min.

    The ends of a table are Stable Diffusion's, rounded; they are replaced by the model's own.
    """
    levels = np.log([sigma_max, *table[1:-1], sigma_min])
    return np.exp(np.interp(np.linspace(0, 10, steps), np.arange(11), levels))
