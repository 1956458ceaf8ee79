"""Figures, their goals, and the table."""

import numpy as np
import pytest

from pochade.evaluation.report import GOALS, Figure, markdown, shown, with_goal
from pochade.images.sheet import COLUMNS, SIDE, sheet


def test_a_goal_is_reached_from_the_right_side() -> None:
    assert Figure(name="a", value=0.5, count=1, goal=0.5).reached is True
    assert Figure(name="a", value=0.4, count=1, goal=0.5).reached is False
    assert Figure(name="a", value=0.4, count=1, goal=0.5, higher=False).reached is True
    assert Figure(name="a", value=0.4, count=1).reached is None
    for value, reached in ((0.8, False), (0.85, True), (1.0, True), (1.15, True), (1.2, False)):
        assert Figure(name="a", value=value, count=1, goal=(0.85, 1.15)).reached is reached
    assert with_goal(Figure(name="style", value=0.4, count=1)).goal == GOALS["style"]


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [(0.875, "share", "87.5 %"), (27.34, "dB", "27.3 dB"), (0.0412, "", "0.041")],
)
def test_figures_have_units(value: float, unit: str, expected: str) -> None:
    assert shown(value, unit) == expected  # type: ignore[arg-type]


def test_the_table_shows_figure_ceiling_and_goal() -> None:
    figure = Figure(name="count", value=0.62, count=50, real=0.97, goal=0.6)
    text = markdown("fox", {"seed": 0}, [figure], ["autoencoder: left out"])
    assert "# Evaluation of fox\n" in text
    assert "| count | 62.0 % | 97.0 % | at least 60.0 % ✓ | 50 |" in text
    assert "- autoencoder: left out" in text
    inside = Figure(name="edges", value=0.9, count=50, unit="", real=1.0, goal=(0.85, 1.15))
    assert "| edges | 0.900 | 1.000 | 0.850 to 1.150 ✓ | 50 |" in markdown("fox", {}, [inside], [])
    assert "not comparable with published" in text


def test_the_sheet_has_a_place_for_every_picture() -> None:
    from PIL import Image

    colours = [(10 * number, 0, 255) for number in range(COLUMNS + 1)]
    prompts = [f"prompt {number} 狐" for number in range(COLUMNS + 1)]
    page = sheet([Image.new("RGB", (40, 40), colour) for colour in colours], prompts)
    assert page.height == 2 * (page.height // 2)
    step = page.width // COLUMNS
    row = page.height // 2
    for number, colour in enumerate(colours):
        place = (number % COLUMNS * step + SIDE // 2, number // COLUMNS * row + SIDE // 2)
        assert page.getpixel(place) == colour
    below = page.crop((4, SIDE + 4, step, row))
    assert np.asarray(below.convert("L")).min() < 100  # there is a text
