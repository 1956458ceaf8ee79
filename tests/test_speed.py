"""What is left out in which step."""

import pytest

from pochade.errors import InvalidRequest
from pochade.request import Request
from pochade.speed import EVERYTHING, SPEEDS, Economy, StepWork, find_speed


def works(economy: Economy, steps: int) -> list[StepWork]:
    return [economy.work(step, steps) for step in range(steps)]


def test_exact_leaves_nothing_out() -> None:
    assert works(SPEEDS["exact"], 20) == [EVERYTHING] * 20


def test_guidance_within_its_part_and_every_other_step() -> None:
    found = works(Economy(guided=(0.2, 0.8), guided_every=2), 10)
    assert [each.guided for each in found] == [False] * 2 + [True, False] * 3 + [False] * 2
    assert [each.held for each in found] == [False] * 2 + [True] * 6 + [False] * 2
    assert all(each.whole and each.layers == 0 for each in found)


def test_whole_steps_at_the_ends_and_between() -> None:
    found = works(Economy(whole_every=3, whole_ends=2, layers=2), 10)
    assert [each.whole for each in found] == [True, True, False, True, False, False, True, False, True, True]
    assert {each.layers for each in found} == {2}


def test_each_setting_leaves_out_at_least_as_much_as_the_one_before() -> None:
    def evaluations(economy: Economy) -> float:
        """A part of the UNet counts a fifth."""
        return sum((1 + each.guided) * (1 if each.whole else 0.2) for each in works(economy, 20))

    exact, balanced, fast = (evaluations(SPEEDS[name]) for name in ("exact", "balanced", "fast"))
    assert exact == 40 and fast < balanced < exact


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="'warp' is unknown; one of: exact, balanced, fast"):
        find_speed("warp")
    with pytest.raises(InvalidRequest, match="'warp'"):
        Request(prompt="", speed="warp")
    with pytest.raises(InvalidRequest, match="guided_every is 0"):
        Economy(guided_every=0)
    with pytest.raises(InvalidRequest, match="guided is"):
        Economy(guided=(0.8, 0.2))
