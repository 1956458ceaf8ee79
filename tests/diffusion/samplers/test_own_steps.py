"""DPM fast, DPM adaptive and Restart: which steps they choose, and that their work is bounded."""

from itertools import pairwise

import numpy as np
import pytest

from pochade.diffusion.samplers import SAMPLERS
from pochade.diffusion.samplers.dpm_solver import StepSizeControl, Trial, dpm_adaptive
from pochade.diffusion.samplers.restart import restarts
from pochade.diffusion.schedule import noise_schedule, sigmas

MEAN, DEVIATION = 0.3, 0.8


def denoise(x, sigma):
    """The ideal denoiser of data ~ N(MEAN, DEVIATION^2)."""
    return MEAN + DEVIATION**2 / (DEVIATION**2 + sigma**2) * (x - MEAN)


def flow(x, sigma, after):
    """Where the probability flow takes x."""
    return MEAN + (x - MEAN) * ((DEVIATION**2 + after**2) / (DEVIATION**2 + sigma**2)) ** 0.5


def run(label, levels, denoise=denoise, **options):
    """(steps, levels asked for) from a few numbers."""
    asked = []

    def counted(x, sigma):
        assert type(sigma) is float
        asked.append(sigma)
        return denoise(x, sigma)

    start = levels[0] * np.array([-1.3, 0.2, 0.9])
    return list(SAMPLERS[label].function(counted, start, levels, lambda: np.ones(3), **options)), asked


# --- DPM-Solver's steps -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("move", "order"),
    [
        (Trial.first, 1),
        (Trial.second, 2),
        (lambda trial, after: trial.second(after, 1 / 3), 2),
        (Trial.third, 3),
    ],
)
def test_order_of_one_kind_of_step(move, order):
    def error(steps):
        x = np.float64(7.0)
        for sigma, after in pairwise(np.geomspace(10.0, 0.05, steps + 1)):
            x = move(Trial(denoise, x, sigma), after)
        return abs(x - flow(7.0, 10.0, 0.05))

    assert np.log2(error(64) / error(128)) == pytest.approx(order, abs=0.12)


def test_what_two_steps_have_in_common_is_evaluated_once():
    for after in np.linspace(0.9, 1.0, 50).tolist():  # any length, to the last bit
        asked = []
        trial = Trial(
            lambda x, sigma, asked=asked: asked.append(sigma) or denoise(x, sigma), np.float64(5.0), 4.0
        )
        trial.second(after, 1 / 3)
        trial.third(after)
        np.testing.assert_allclose(asked, [4.0, (4 * 4 * after) ** (1 / 3), (4 * after * after) ** (1 / 3)])


# --- DPM fast -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", range(1, 13))
def test_fast_takes_as_many_evaluations_as_steps_are_asked_for(steps):
    levels = sigmas(noise_schedule(), "Uniform", steps)
    done, asked = run("DPM fast", levels)
    # from the first level to the last above 0, and one more for the rest
    assert len(asked) == (1 if steps == 1 else steps + 1)
    count = 1 if steps == 1 else steps // 3 + 2
    assert [(step.index, step.steps) for step in done] == [(i, count) for i in range(count)]
    assert asked[-1] == levels[-2]
    np.testing.assert_array_equal(done[-1].x, done[-1].denoised)


# --- DPM adaptive -------------------------------------------------------------------------------------


def assert_counted(done):
    """`steps` lies beyond the present step until the last, where it is exact."""
    assert [step.index for step in done] == list(range(len(done)))
    assert all(step.steps > step.index + 1 for step in done[:-1])
    assert done[-1].steps == len(done)


def test_adaptive_finds_the_flow():
    levels = [10.0, 0.05, 0.0]
    done, asked = run("DPM adaptive", levels)
    assert_counted(done)
    assert 10 < len(asked) < 100
    start = levels[0] * np.array([-1.3, 0.2, 0.9])
    np.testing.assert_allclose(done[-2].x, flow(start, 10.0, 0.05), atol=0.05)
    np.testing.assert_array_equal(done[-1].x, denoise(done[-2].x, 0.05))


def test_adaptive_works_more_for_a_smaller_error():
    levels = [10.0, 0.05]
    start = np.array([-13.0, 2.0, 9.0])
    work, errors = [], []
    for scale in (1.0, 0.1, 0.01):
        control = StepSizeControl(relative=0.05 * scale, absolute=0.0078 * scale)
        asked = []
        done = list(
            dpm_adaptive(
                lambda x, s, asked=asked: asked.append(s) or denoise(x, s),
                start,
                levels,
                None,
                control=control,
            )
        )
        work.append(len(asked))
        errors.append(np.abs(done[-1].x - flow(start, 10.0, 0.05)).max())
    assert work[0] < work[1] < work[2]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


@pytest.mark.parametrize("broken", [0.0, 1e6, float("nan")], ids=["calm", "wild", "nan"])
def test_adaptive_ends_whatever_the_model_does(broken):
    """The limit that the docstring promises, with a model that no step length satisfies."""
    generator = np.random.default_rng(0)
    done, asked = run(
        "DPM adaptive",
        sigmas(noise_schedule(), "Karras", 8),
        denoise=lambda x, sigma: denoise(x, sigma) + broken * generator.normal(size=x.shape),
    )
    assert_counted(done)
    control = StepSizeControl()
    assert len(done) <= control.steps + 1
    assert len(asked) <= 2 * control.tries + 3 * control.steps + 1


def test_a_rejected_step_is_tried_again_from_what_is_known():
    """The evaluation at its start serves all tries: no level is asked for twice in a row of tries."""
    bend = 3.0  # a model that changes all at once: steps across it are rejected

    def sudden(x, sigma):
        return denoise(x, sigma) + (4.0 if sigma < bend else 0.0)

    done, asked = run("DPM adaptive", [14.6, 0.05], denoise=sudden)
    assert len(asked) > 3 * len(done), "nothing was rejected"
    assert (len(asked) - 3 * len(done)) % 2 == 0
    assert len(set(asked)) == len(asked)


def test_adaptive_with_one_level():
    done, asked = run("DPM adaptive", [14.6, 0.0])
    assert asked == [14.6]
    assert_counted(done)


# --- Restart ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Karras", "Uniform", "Beta", "Align Your Steps"])
@pytest.mark.parametrize("steps", [5, 19, 20, 30, 35, 36, 50, 100])
def test_restarts(steps, name):
    levels = sigmas(noise_schedule(), name, steps)
    plan = restarts(levels)
    assert len(plan) == steps
    assert plan[0][0] == levels[0]
    assert plan[-1][1] == 0.0
    assert all(after < sigma for sigma, after in plan)
    jumps = [(before[1], sigma) for before, (sigma, _) in pairwise(plan) if sigma != before[1]]
    assert len(jumps) == (0 if steps < 20 else 1 if steps < 36 else 2)
    for low, high in jumps:
        assert 0.029 < low < 0.3
        assert 1.4 < high < 2.8


def test_no_restart_where_the_schedule_does_not_go():
    levels = [*np.geomspace(14.0, 5.0, 30).tolist(), 0.0]
    assert restarts(levels) == list(pairwise(levels))


def test_a_restart_in_numbers():
    """Of 20 steps 9 are a restart; the way down has 11, spread as Karras spreads 11."""
    schedule = noise_schedule()
    plan = restarts(sigmas(schedule, "Karras", 20))
    down = sigmas(schedule, "Karras", 11)
    low, high = (min(down[:-1], key=lambda level: abs(level - goal)) for goal in (0.1, 2.0))
    begin = next(i for i in range(1, 20) if plan[i][0] > plan[i - 1][1])
    np.testing.assert_allclose([sigma for sigma, _ in plan[:begin]], down[: down.index(low)], rtol=1e-12)
    again = [sigma for sigma, _ in plan[begin : begin + 9]]
    np.testing.assert_allclose(again, np.linspace(high ** (1 / 7), low ** (1 / 7), 10)[:-1] ** 7, rtol=1e-12)
    assert [after for _, after in plan[begin + 9 :]] == pytest.approx(down[down.index(low) + 1 :])
