"""Texture measures: palette and edges of a picture."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from pochade.evaluation.texture import COUNT, LEVELS, SIDE, edges, palette, texture


def sheet(colour: str, box: tuple[int, int, int, int] = (12, 12, 40, 40)) -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(image).rectangle(box, fill=colour)
    return image


def test_its_parts_are_shares() -> None:
    found = texture(sheet("red").resize((64, 200)))
    assert found.shape == (COUNT,)
    assert found.dtype == np.float32
    assert abs(np.square(found).sum() - 10) < 1e-3  # one of colours, and three of edges at three scales


def test_a_palette_is_of_what_is_drawn() -> None:
    red = palette(np.asarray(sheet("red")))
    assert red[(LEVELS - 1) * LEVELS**2] == 1  # 255, 0, 0: all of it in one corner
    small = palette(np.asarray(sheet("red", (12, 12, 17, 17))))
    np.testing.assert_allclose(small, red)
    assert palette(np.asarray(sheet("white"))).sum() == 0


def test_a_colour_between_levels_is_divided() -> None:
    step = 255 / (LEVELS - 1)
    colour = round(2.5 * step)
    found = palette(np.full((4, 4, 3), colour, np.uint8))
    assert np.count_nonzero(found) == 8
    assert found.max() < 0.2
    np.testing.assert_allclose(found.sum(), 1)


def test_soft_edges_are_less_steep_and_the_place_is_no_matter() -> None:
    sharp = sheet("black")
    moved = sheet("black", (24, 20, 52, 48))  # by whole blocks of the coarsest scale
    soft = sharp.filter(ImageFilter.GaussianBlur(3))
    steepest = [np.flatnonzero(edges(np.asarray(image), 1)[:16]).max() for image in (sharp, moved, soft)]
    assert steepest[0] == steepest[1] == 15
    assert steepest[2] < 13
    assert np.abs(texture(sharp) - texture(moved)).max() < 0.02
