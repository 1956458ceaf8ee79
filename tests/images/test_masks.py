"""Masks for inpainting, and compositing."""

import numpy as np
import pytest
from PIL import Image

from pochade.errors import InvalidRequest
from pochade.images.masks import Box, blurred, bounds, composite, gray, in_latent, region, surroundings


def mask(box: tuple[int, int, int, int], size: tuple[int, int] = (64, 48)) -> Image.Image:
    image = Image.new("L", size)
    image.paste(255, box)
    return image


def test_any_picture_is_a_mask() -> None:
    image = Image.new("RGBA", (2, 1), (255, 255, 255, 255))
    image.putpixel((0, 0), (255, 255, 255, 0))
    assert np.asarray(gray(image)).tolist() == [[0, 255]]
    assert gray(Image.new("1", (1, 1), 1)).getpixel((0, 0)) == 255
    assert gray(Image.new("RGB", (1, 1), (10, 10, 10))).getpixel((0, 0)) == 10


@pytest.mark.parametrize("colour", ["black", "white", "red"])
def test_a_mask_that_is_transparent_anywhere_is_its_opacity(colour: str) -> None:
    """As in A1111: what is painted on nothing is the mask, in whatever colour."""
    alpha = mask((16, 16, 48, 40))
    alpha.putpixel((20, 20), 100)
    painted = Image.new("RGB", alpha.size, colour)
    painted.putalpha(alpha)
    assert gray(painted) == alpha
    grays = Image.merge("LA", [painted.convert("L"), alpha])
    assert gray(grays) == alpha


def test_a_mask_that_is_opaque_everywhere_is_its_brightness() -> None:
    opaque = mask((16, 16, 48, 40)).convert("RGBA")
    assert gray(opaque) == mask((16, 16, 48, 40))


def test_a_black_mask_is_refused() -> None:
    assert bounds(mask((3, 4, 10, 20))) == Box(3, 4, 10, 20)
    with pytest.raises(InvalidRequest, match="black everywhere"):
        bounds(mask((0, 0, 0, 0)))


def test_blurring_softens_the_edge_only() -> None:
    soft = blurred(mask((16, 16, 48, 48)), 2)
    assert soft.getpixel((32, 32)) == 255
    assert soft.getpixel((2, 2)) == 0
    edge = soft.getpixel((16, 32))
    assert isinstance(edge, int) and 64 < edge < 192
    assert blurred(soft, 0) is soft


@pytest.mark.parametrize(
    "box", [(30, 20, 34, 24), (0, 0, 4, 4), (60, 40, 64, 48), (10, 2, 50, 10), (0, 0, 64, 48)]
)
def test_a_region_holds_the_mask_with_its_padding_in_the_wanted_shape(box: tuple[int, int, int, int]) -> None:
    found = region(mask(box), 4, 16, 16)
    assert found.left <= box[0] and found.top <= box[1] and found.right >= box[2] and found.bottom >= box[3]
    width, height = found.size
    assert width == height or height == 48
    assert found.right <= 64 and found.bottom <= 48


def test_every_touched_latent_pixel_is_drawn_anew() -> None:
    found = in_latent(mask((7, 8, 9, 9)), 8)  # two pixels wide, over the border of two cells
    assert found.shape == (1, 6, 8)
    assert np.argwhere(found[0]).tolist() == [[1, 0], [1, 1]]


def test_the_new_is_set_into_the_old() -> None:
    old, new = Image.new("RGB", (64, 48), "red"), Image.new("RGB", (64, 48), "blue")
    found = composite(old, new, mask((0, 0, 32, 48)))
    assert (found.getpixel((0, 0)), found.getpixel((63, 0))) == ((0, 0, 255), (255, 0, 0))


def test_a_hole_is_filled_with_the_colours_around_it() -> None:
    image = Image.new("RGB", (64, 48), "red")
    image.paste("blue", (32, 0, 64, 48))
    hole = mask((20, 10, 44, 38))
    dirty = image.copy()
    dirty.paste("lime", (20, 10, 44, 38))
    filled = np.asarray(surroundings(dirty, hole)).astype(int)
    assert filled[..., 1].max() < 12  # nothing of what was under the mask shows
    assert filled[24, 21, 0] > filled[24, 21, 2] and filled[24, 42, 2] > filled[24, 42, 0]
    outside = np.asarray(hole) == 0
    np.testing.assert_array_equal(filled[outside], np.asarray(image)[outside])


def test_a_picture_masked_as_a_whole_is_filled_with_something() -> None:
    image = Image.new("RGB", (16, 16), "red")
    assert surroundings(image, mask((0, 0, 16, 16), (16, 16))).size == (16, 16)
