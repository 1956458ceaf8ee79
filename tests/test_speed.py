"""Speed profiles: which computations are skipped in each step."""

import numpy as np
import pytest

from pochade.diffusion.samplers import find_sampler
from pochade.diffusion.schedule import noise_schedule, sigmas
from pochade.errors import InvalidRequest
from pochade.request import Request
from pochade.speed import FULL_STEP, SPEEDS, SpeedProfile, StepWork, find_speed, progress_of


def plan(profile: SpeedProfile, steps: int) -> list[StepWork]:
    """With the steps evenly over the way."""
    return profile.plan([step / (steps - 1) for step in range(steps)])


def full(profile: SpeedProfile, steps: int) -> list[int]:
    return [step for step, work in enumerate(plan(profile, steps)) if work.full]


def test_exact_leaves_nothing_out() -> None:
    assert plan(SPEEDS["exact"], 20) == [FULL_STEP] * 20


def test_guidance_within_its_part() -> None:
    found = SpeedProfile(guided=(0.2, 0.8)).plan([place / 10 for place in range(10)])
    assert [each.guided for each in found] == [False] * 2 + [True] * 6 + [False] * 2
    assert all(each.full and each.layers == 0 for each in found)
    assert all(each.guided for each in plan(SpeedProfile(guided=(0.0, 1.0)), 7))


def test_a_long_step_is_guided_if_a_part_of_it_is() -> None:
    found = SpeedProfile(guided=(0.1, 0.5)).plan([0.0, 0.3, 0.6, 0.9])
    assert [each.guided for each in found] == [True, True, False, False]
    assert not any(each.guided for each in plan(SpeedProfile(guided=(0.0, 0.0)), 4))


def test_whole_steps_keep_the_distance_of_their_stretch() -> None:
    profile = SpeedProfile(full=((0.5, 0.2), (0.8, 0.1), (1.0, 0.5)), layers=2)
    assert full(profile, 21) == [0, 4, 8, 10, 12, 14]
    assert full(profile, 11) == [0, 2, 4, 5, 6, 7]
    assert {each.layers for each in plan(profile, 11)} == {2}


def test_a_drawing_that_begins_late_begins_whole() -> None:
    late = SpeedProfile(full=((0.5, 0.2), (1.0, 0.3))).plan([0.6, 0.7, 0.8, 0.9, 1.0])
    assert [each.full for each in late] == [True, False, False, True, False]


def held(profile: SpeedProfile, steps: int) -> list[int]:
    return [step for step, work in enumerate(plan(profile, steps)) if work.held]


def test_what_was_found_is_held_until_it_is_too_far_back() -> None:
    profile = SpeedProfile(full=((1.0, 0.4),), held=((0.5, 0.1), (1.0, 0.15)))
    assert full(profile, 21) == [0, 8, 16]
    # Steps are 0.05 apart: every other one before the middle, then two in a row.
    assert held(profile, 21) == [1, 3, 5, 7, 9, 10, 12, 13, 15, 17, 18, 20]
    assert full(profile, 6) == [0, 2, 4] and held(profile, 6) == []
    assert held(SpeedProfile(full=((1.0, 0.4),)), 21) == []


def test_a_step_that_cannot_be_held_is_one_of_last_layers() -> None:
    found = plan(SpeedProfile(full=((1.0, 0.4),), held=((1.0, 0.3),), layers=2), 11)
    assert found[1] == StepWork(full=False, layers=2, held=True)
    assert found[3] == StepWork(full=False, layers=2)


def test_samplers_that_add_noise_have_stretches_of_their_own_and_hold_nothing() -> None:
    profile = SpeedProfile(full=((1.0, 0.4),), stochastic=((1.0, 0.2),), held=((1.0, 0.3),))
    positions = [step / 10 for step in range(11)]
    found = profile.plan(positions, stochastic=True)
    assert [step for step, work in enumerate(found) if work.full] == [0, 2, 4, 6, 8, 10]
    assert not any(work.held for work in found)
    without = SpeedProfile(full=profile.full, held=profile.held).plan(positions, stochastic=True)
    assert [step for step, work in enumerate(without) if work.full] == [0, 4, 8]
    assert not any(work.held for work in without)


@pytest.mark.parametrize("name", ["balanced", "fast"])
@pytest.mark.parametrize("steps", [2, 3, 4])
def test_a_model_of_few_steps_gets_every_one_whole(name: str, steps: int) -> None:
    levels = sigmas(noise_schedule(), "Turbo", steps)[:-1]
    assert all(
        work.full and work.guided for work in SPEEDS[name].plan([progress_of(level) for level in levels])
    )


def test_the_way_is_even_over_the_steps_of_karras_and_begins_where_stable_diffusion_does() -> None:
    levels = sigmas(noise_schedule(), "Karras", 12)[:-1]
    assert np.allclose([progress_of(level) for level in levels], np.linspace(0, 1, 12), atol=0.005)
    assert progress_of(0.0) == 1.0 and progress_of(100.0) < 0


def test_pure_noise_is_guided_and_hardly_looked_at() -> None:
    found = SPEEDS["fast"].plan([-0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2])
    assert all(each.guided for each in found)
    assert [each.full for each in found] == [True, False, True, False, True, False, True]


def test_the_settings_as_they_are_documented() -> None:
    """Of Stable Diffusion: w the whole UNet, l the last layer, - nothing."""

    def drawn(name: str, sampler: str) -> str:
        found = find_sampler(sampler)
        levels = sigmas(noise_schedule(), "Automatic", 20, automatic=found.schedule)[:-1]
        works = SPEEDS[name].plan([progress_of(level) for level in levels], stochastic=found.adds_noise(None))
        return "".join("w" if work.full else "-" if work.held else "l" for work in works)

    assert drawn("balanced", "DPM++ 2M") == "w-w-w-wwwwwww-w---l-"
    assert drawn("fast", "DPM++ 2M") == "w-lw-lw-lw-lw-lw---l"
    assert drawn("balanced", "Euler a") == "wlwllwwwwwllwllwlwll"
    assert drawn("fast", "Euler a") == "wlwllwlwlwlwlwlllwll"


@pytest.mark.parametrize("steps", [4, 10, 20, 28, 50, 100])
def test_each_setting_leaves_out_at_least_as_much_as_the_one_before(steps: int) -> None:
    def evaluations(name: str) -> float:
        """A part of the UNet counts a tenth."""
        return sum(
            (1 + each.guided) * (1 if each.full else 0 if each.held else 0.1)
            for each in plan(SPEEDS[name], steps)
        )

    assert evaluations("fast") <= evaluations("balanced") <= evaluations("exact") == 2 * steps


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="'warp' is unknown; one of: exact, balanced, fast"):
        find_speed("warp")
    with pytest.raises(InvalidRequest, match="'warp'"):
        Request(prompt="", speed="warp")
    with pytest.raises(InvalidRequest, match="layers is 0"):
        SpeedProfile(layers=0)
    with pytest.raises(InvalidRequest, match="guided is"):
        SpeedProfile(guided=(0.8, 0.2))
    for intervals in (((0.5, 0.1),), ((0.5, 0.1), (0.4, 0.1), (1.0, 0.1)), ((1.0, -0.1),)):
        with pytest.raises(InvalidRequest, match="full is"):
            SpeedProfile(full=intervals)
        with pytest.raises(InvalidRequest, match="held is"):
            SpeedProfile(held=intervals)
        with pytest.raises(InvalidRequest, match="stochastic is"):
            SpeedProfile(stochastic=intervals)
