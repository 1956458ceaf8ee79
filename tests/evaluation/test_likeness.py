"""Similarity of pictures, compared with closed forms and another implementation."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pochade.evaluation.likeness import STABLE, brightness, psnr, ssim


def noisy(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 37, 3), np.uint8)


def test_psnr_of_a_known_error() -> None:
    picture = np.full((8, 8, 3), 100, np.uint8)
    assert psnr(picture, picture + np.uint8(5)) == pytest.approx(20 * np.log10(255 / 5))
    assert psnr(picture, picture) == float("inf")


def test_ssim_is_one_for_the_same_and_small_for_another() -> None:
    assert ssim(noisy(0), noisy(0)) == pytest.approx(1)
    assert abs(ssim(noisy(0), noisy(1))) < 0.1


def test_ssim_of_even_pictures_is_their_brightness() -> None:
    dark, light = np.full((16, 16, 3), 50, np.uint8), np.full((16, 16, 3), 100, np.uint8)
    expected = (2 * 50 * 100 + STABLE[0]) / (50**2 + 100**2 + STABLE[0])
    assert ssim(dark, light) == pytest.approx(expected)


def test_ssim_agrees_with_scipy_s_filter() -> None:
    one = noisy(2)
    other = (0.7 * one + 0.3 * noisy(3)).astype(np.uint8)
    x, y = brightness(one), brightness(other)

    def mean(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, 1.5, radius=5)[5:-5, 5:-5]

    c1, c2 = STABLE
    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    expected = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert ssim(one, other) == pytest.approx(expected.mean(), abs=1e-9)
