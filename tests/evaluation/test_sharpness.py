"""Edges, plain areas and margins, on pictures whose values are known."""

import math

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pochade.evaluation.sharpness import Sharpness, ratios, sharpness


def square(side: int = 128, mottle: float = 0.0, paper: int = 255) -> Image.Image:
    """A gray square on paper, with low-frequency noise of a standard deviation inside."""
    pixels = np.full((side, side), float(paper))
    part = slice(side // 4, 3 * side // 4)
    coarse = Image.fromarray(np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32))
    noise = np.asarray(coarse.resize((side // 2, side // 2), Image.Resampling.BICUBIC))
    pixels[part, part] = 120 + mottle * noise / noise.std()
    return Image.fromarray(np.repeat(pixels.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2))


def test_a_plain_square_has_steep_edges_no_unevenness_and_a_white_margin() -> None:
    found = sharpness(square())
    # about 4 * 64 of (128 - 1)^2 pixels differ from a neighbour by 135, two of them from two
    assert found.edges == pytest.approx(135 * (254 + math.sqrt(2)) / round(0.05 * 127**2), rel=0.02)
    assert (found.unevenness, found.white) == (0.0, 1.0)


def test_mottle_is_unevenness_and_blur_softens_edges() -> None:
    plain, mottled = sharpness(square(mottle=0.5)), sharpness(square(mottle=4))
    assert mottled.unevenness > 2 * plain.unevenness
    assert mottled.edges == pytest.approx(plain.edges, rel=0.05)
    soft = sharpness(square().filter(ImageFilter.GaussianBlur(2)))
    assert soft.edges < 0.6 * plain.edges


def test_gray_paper_is_not_white() -> None:
    assert sharpness(square(paper=252)).white == 0.0
    assert sharpness(square(paper=253)).white == 1.0


def test_a_picture_without_plain_areas_has_no_unevenness() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    assert math.isnan(sharpness(noise).unevenness)
    drawn = [Sharpness(30.0, 2.0, 1.0), Sharpness(50.0, math.nan, 1.0)]
    assert ratios(drawn, [Sharpness(80.0, 4.0, 1.0)]) == (0.5, 0.5)


@pytest.mark.parametrize("side", [96, 128, 256])
def test_any_size_can_be_measured(side: int) -> None:
    assert sharpness(square(side)).white == 1.0
