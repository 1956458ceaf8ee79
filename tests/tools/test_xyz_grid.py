"""X/Y/Z plots: values of axes and their effects."""

from dataclasses import replace

import pytest

from pochade.errors import InvalidRequest
from pochade.request import Request
from pochade.request_options import Hires
from pochade.tools.xyz_grid import Axis, axis, requests

BASE = Request(prompt="a red fox", seed=7, width=64, height=64)


def test_axes_as_people_write_them() -> None:
    assert axis("sampler=Euler, DPM++ 2M") == Axis("sampler", ("Euler", "DPM++ 2M"))
    assert axis("Seed=1-3,9") == Axis("seed", ("1", "2", "3", "9"))
    assert axis("words=a red fox,,, an owl") == Axis("words", ("a red fox,", "an owl"))
    assert axis("size=64x64") == Axis("size", ("64x64",))


def test_every_combination_the_last_axis_first() -> None:
    made = requests(BASE, [axis("steps=5,10"), axis("cfg=1,4.5")])
    assert [(each.steps, each.cfg_scale) for each in made] == [(5, 1), (5, 4.5), (10, 1), (10, 4.5)]
    assert {each.seed for each in made} == {7}


def test_words_of_the_prompt_are_replaced() -> None:
    made = requests(BASE, [axis("words=fox,owl")])
    assert [each.prompt for each in made] == ["a red fox", "a red owl"]
    larger = replace(BASE, hires=Hires(prompt="a fox, sharp"))
    made = requests(larger, [axis("words=fox,owl")])
    assert [each.hires and each.hires.prompt for each in made] == ["a fox, sharp", "a owl, sharp"]


def test_sizes_and_names() -> None:
    (made,) = requests(BASE, [axis("size=128x96"), axis("schedule=Karras"), axis("clip-skip=2")])
    assert (made.width, made.height, made.schedule, made.clip_skip) == (128, 96, "Karras", 2)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "flavour=sweet",
            "'flavour=sweet' is not an axis; write NAME=VALUE,VALUE with one of: prompt, words",
        ),
        ("seed", "is not an axis"),
        ("seed=", "has no values"),
        ("seed=1-99999", "a range of more than 1,000 values"),
    ],
)
def test_what_is_no_axis(text: str, fault: str) -> None:
    with pytest.raises(InvalidRequest, match=fault):
        axis(text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("steps=many", "'many' is not a value of the axis 'steps'"),
        ("steps=0", "steps is 0"),
        ("words=bear,owl", "does not hold 'bear'"),
        ("size=64", "'64' is not a value of the axis 'size'"),
        ("strength=0.5", "needs a picture to draw over"),
    ],
)
def test_values_that_cannot_be(text: str, fault: str) -> None:
    with pytest.raises(InvalidRequest, match=fault):
        requests(BASE, [axis(text)])


def test_too_many_pictures_are_refused_before_any_is_drawn() -> None:
    with pytest.raises(InvalidRequest, match="make 10,000 pictures; at most 1,000"):
        requests(BASE, [axis("seed=1-100"), axis("steps=1-100")])
