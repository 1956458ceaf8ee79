"""Similarity of two pictures, pixel by pixel."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

WINDOW, SIGMA = 11, 1.5
"""Pixels of the weighting window of SSIM, and the deviation of its Gaussian."""

STABLE = ((0.01 * 255) ** 2, (0.03 * 255) ** 2)
"""C1 and C2, which keep the quotients finite where a picture is black or even."""


def psnr(one: Pixels, other: Pixels) -> float:
    """Peak signal to noise, in dB: 10 log10(255^2 / mean squared error); infinite for equal pictures."""
    error = np.square(one.astype(np.float64) - other).mean()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ssim(one: Pixels, other: Pixels) -> float:
    """Mean structural similarity of the brightness, at most 1 (Wang et al. 2004, equation 13).

    one, other: (H, W, 3), both sides at least 11 px. Windows that reach over the edge are left out.
    """
    x, y = brightness(one), brightness(other)
    mean_x, mean_y = blurred(x), blurred(y)
    variance_x = blurred(x * x) - mean_x**2
    variance_y = blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    c1, c2 = STABLE
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((likeness / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))).mean())


def brightness(picture: Pixels) -> Floats:
    """(H, W, 3) -> (H, W) in 0..255, weighted as in ITU-R BT.601."""
    weighted: Floats = picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return weighted


def blurred(x: Floats) -> Floats:
    """Weighted means of every whole window: (H, W) -> (H - 10, W - 10)."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    rows = sliding_window_view(x, WINDOW, axis=0) @ weights
    both: Floats = sliding_window_view(rows, WINDOW, axis=1) @ weights
    return both
