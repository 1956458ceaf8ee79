"""Resizing and padding pictures."""

import numpy as np
import pytest
from PIL import Image

from pochade.errors import InvalidRequest
from pochade.images.fitting import MODES, fit, surrounded


def halves() -> Image.Image:
    """40 x 20, the left half red, the right one blue."""
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (20, 0, 40, 20))
    return image


def red_share(image: Image.Image) -> float:
    pixels = np.asarray(image)
    return float((pixels[..., 0] > pixels[..., 2]).mean())


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_size(mode: str) -> None:
    assert fit(halves(), 24, 32, mode).size == (24, 32)
    assert fit(halves(), 40, 20, mode) == halves()


def test_cropping_takes_the_middle_and_keeps_the_shape() -> None:
    image = halves()
    image.paste("green", (0, 0, 8, 20))
    found = np.asarray(fit(image, 20, 20, "crop"))
    assert found[..., 1].max() < 10  # the green edge is outside
    assert abs(red_share(fit(image, 20, 20, "crop")) - 0.5) < 0.06


def test_filling_draws_the_outermost_rows_out() -> None:
    found = fit(halves(), 40, 40, "fill")
    np.testing.assert_array_equal(np.asarray(found)[0], np.asarray(halves())[0])
    np.testing.assert_array_equal(np.asarray(found)[39], np.asarray(halves())[19])


def test_margins_repeat_the_edge() -> None:
    wider = surrounded(halves(), 5, 0, 3, 2)
    assert wider.size == (48, 22)
    assert wider.getpixel((0, 21)) == (255, 0, 0)
    assert wider.getpixel((47, 0)) == (0, 0, 255)


def test_an_unknown_mode_is_named() -> None:
    with pytest.raises(InvalidRequest, match="resize mode 'bend' is unknown; one of: stretch, crop, fill"):
        fit(halves(), 8, 8, "bend")
