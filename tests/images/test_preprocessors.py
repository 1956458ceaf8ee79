"""Preprocessors: canny against scipy's parts, and what the others must do."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from pochade.errors import InvalidRequest
from pochade.images.preprocessors import (
    PREPROCESSORS,
    blurred,
    canny,
    connected,
    find_preprocessor,
    preprocessed,
    sobel,
)


def scene(width: int = 90, height: int = 70) -> Image.Image:
    """Discs and bars of gray on a slope, with noise: edges in all directions."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width]
    plane = 60.0 + x * 0.3
    plane[np.hypot(y - 30, x - 28) < 17] = 200
    plane[np.hypot(y - 45, x - 60) < 12.5] = 30
    plane[(x + 2 * y) % 60 < 9] += 40
    plane += rng.normal(0, 4, plane.shape)
    return Image.fromarray(plane.clip(0, 255).astype(np.uint8)).convert("RGB")


def white(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    assert pixels.ndim == 3 and set(np.unique(pixels)) <= {0, 255}
    return pixels[..., 0] > 0


@pytest.mark.parametrize("sigma", [0.5, 0.8, 2.0])
def test_the_gaussian_and_the_slope_are_scipys(sigma):
    plane = np.asarray(scene().convert("L"), float)
    smooth = ndimage.gaussian_filter(plane, sigma, mode="nearest")
    np.testing.assert_allclose(blurred(plane, sigma), smooth, rtol=1e-10)
    across, down = sobel(plane)
    np.testing.assert_allclose(across, ndimage.sobel(plane, 1, mode="nearest"), atol=1e-9)
    np.testing.assert_allclose(down, ndimage.sobel(plane, 0, mode="nearest"), atol=1e-9)


def test_weak_edges_live_where_strong_ones_touch_them():
    rng = np.random.default_rng(1)
    weak = rng.random((40, 50)) < 0.35
    strong = weak & (rng.random(weak.shape) < 0.05)
    labels, _ = ndimage.label(weak, np.ones((3, 3)))
    kept = np.isin(labels, np.unique(labels[strong])) & weak
    np.testing.assert_array_equal(connected(weak, strong), kept)
    assert 0 < kept.sum() < weak.sum()


def reference_canny(image: Image.Image, low: float, high: float, sigma: float) -> np.ndarray:
    """Canny by look-ups of the slope between pixels, with scipy's filters, interpolation and labels."""
    smooth = ndimage.gaussian_filter(np.asarray(image.convert("L"), float), sigma, mode="nearest")
    across, down = (ndimage.sobel(smooth, axis, mode="nearest") for axis in (1, 0))
    strength = np.hypot(across, down)
    longest = np.maximum(np.abs(across), np.abs(down)) + 1e-12
    y, x = np.indices(strength.shape)
    ahead, behind = (
        ndimage.map_coordinates(
            strength, [y + sign * down / longest, x + sign * across / longest], order=1, mode="constant"
        )
        for sign in (1, -1)
    )
    ridge = strength * ((strength > ahead) & (strength >= behind))
    labels, _ = ndimage.label(ridge > low, np.ones((3, 3)))
    return np.isin(labels, np.unique(labels[ridge > high])) & (ridge > low)


@pytest.mark.parametrize(("low", "high", "sigma"), [(50, 100, 0.8), (100, 200, 1.0), (30, 200, 2.0)])
def test_canny(low, high, sigma):
    ours, expected = white(canny(scene(), low, high, sigma)), reference_canny(scene(), low, high, sigma)
    assert 0.01 < expected.mean() < 0.3
    union, both = (ours | expected)[1:-1, 1:-1].sum(), (ours & expected)[1:-1, 1:-1].sum()
    assert both / union > 0.97


def test_canny_draws_a_thin_line_where_a_disc_ends():
    y, x = np.mgrid[0:64, 0:64]
    disc = Image.fromarray(np.where(np.hypot(y - 32, x - 32) < 20, np.uint8(220), np.uint8(20)))
    edge = white(canny(disc.convert("RGB")))
    assert np.abs(np.hypot(*(np.array(np.nonzero(edge)) - 32)) - 20).max() < 1.5
    assert 100 < edge.sum() < 180  # 8-connected, a circle of this radius has 113 to 160 pixels
    assert not white(canny(Image.new("RGB", (20, 20), (9, 9, 9)))).any()


def test_scribble_follows_dark_strokes_and_nothing_else():
    page = np.full((60, 60), 230, np.uint8)
    page[20:23, 10:50] = 20
    page[40:60, :] = 120  # an area, not a stroke
    strokes = white(preprocessed(Image.fromarray(page), "scribble"))
    assert strokes[21, 12:48].all()
    assert not strokes[5:15].any() and not strokes[50:].any()


def test_invert_turns_ink_white():
    page = Image.new("RGB", (4, 4), "white")
    page.putpixel((1, 2), (0, 10, 255))
    turned = preprocessed(page, "invert")
    assert turned.getpixel((0, 0)) == (0, 0, 0) and turned.getpixel((1, 2)) == (255, 245, 0)


def test_tile_keeps_colours_and_loses_detail():
    image = scene(96, 64)
    soft = np.asarray(preprocessed(image, "tile"), float)
    sharp = np.asarray(image, float)
    assert abs(soft.mean() - sharp.mean()) < 2
    assert np.abs(np.diff(soft, axis=1)).mean() < np.abs(np.diff(sharp, axis=1)).mean() / 2


@pytest.mark.parametrize("name", PREPROCESSORS)
@pytest.mark.parametrize("size", [(90, 70), (1, 1), (3, 40)])
def test_every_preprocessor_keeps_the_size(name, size):
    image = preprocessed(scene().resize(size), name.upper())
    assert image.size == size and image.mode == "RGB"


def test_an_unknown_one_is_named():
    with pytest.raises(InvalidRequest, match="preprocessor 'depth' is unknown; one of: none, canny"):
        find_preprocessor("depth")
