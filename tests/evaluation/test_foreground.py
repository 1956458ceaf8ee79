"""Finding, counting and cutting out objects on plain backgrounds."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pochade.evaluation.foreground import background, components, count, cut_out, foreground


def page(*boxes: tuple[int, int, int, int], colour: str = "red", ground: str = "white") -> np.ndarray:
    image = Image.new("RGB", (64, 64), ground)
    for box in boxes:
        ImageDraw.Draw(image).rectangle(box, fill=colour)
    return np.asarray(image)


def test_the_background_is_the_commonest_colour_of_the_border() -> None:
    picture = page((0, 20, 40, 40), ground="#46aadc")  # a thing may touch the border
    assert background(picture).tolist() == [0x46, 0xAA, 0xDC]
    assert foreground(picture).sum() == 41 * 21


def test_a_faint_unevenness_is_no_thing() -> None:
    noise = np.random.default_rng(0).integers(-5, 6, (64, 64, 3))
    picture = (page((20, 20, 40, 40)).astype(int) + noise).clip(0, 255).astype(np.uint8)
    assert foreground(picture)[:10].sum() == 0
    assert foreground(picture)[20:41, 20:41].all()


def test_a_winding_thing_is_one_piece_and_corners_connect() -> None:
    spiral = np.zeros((33, 33), bool)
    top, left, bottom, right = 0, 0, 32, 32
    while top < bottom and left < right:
        spiral[top, left : right + 1] = spiral[top : bottom + 1, right] = True
        spiral[bottom, left : right + 1] = True
        spiral[top + 2 : bottom + 1, left] = spiral[top + 2, left : left + 3] = True
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
    assert components(spiral).tolist() == [spiral.sum()]
    assert components(np.eye(5, dtype=bool)).tolist() == [5]
    assert components(np.zeros((4, 4), bool)).tolist() == []
    apart = np.eye(5, dtype=bool)
    apart[2, 2] = False
    assert components(apart).tolist() == [2, 2]


@pytest.mark.parametrize("many", [0, 1, 2, 3])
def test_things_are_counted_and_crumbs_are_not(many: int) -> None:
    boxes = [(4, 4, 20, 20), (40, 4, 56, 20), (22, 40, 38, 56)][:many]
    assert count(page(*boxes)) == many
    if many:
        assert count(page(*boxes, (60, 60, 61, 61))) == many


def test_touching_things_are_one() -> None:
    assert count(page((4, 4, 20, 20), (21, 4, 37, 20))) == 1


def test_a_cut_out_is_a_square_around_the_thing() -> None:
    picture = page((10, 20, 29, 29), ground="blue")
    square = cut_out(picture, foreground(picture), margin=0.1)
    assert square is not None
    assert square.shape == (25, 25, 3)
    red = (square == (255, 0, 0)).all(axis=2)
    assert red.sum() == 20 * 10
    assert red[7:17, 2:22].all()
    assert (square[~red] == (0, 0, 255)).all()
    assert cut_out(picture, np.zeros((64, 64), bool)) is None
