"""The Brownian path of a picture, and its use in samplers."""

from itertools import pairwise

import numpy as np
import pytest

from pochade.diffusion.brownian import CELLS, FROM, TO, BrownianPath, batch_path
from pochade.diffusion.noise import picture_noise
from pochade.diffusion.samplers import SAMPLERS
from pochade.errors import InvalidRequest

SHAPE = (4, 32, 32)
SDE = [label for label, sampler in SAMPLERS.items() if sampler.brownian]


def levels(steps, first=14.6, last=0.03):
    return np.geomspace(first, last, steps + 1).tolist()


def time(sigma, eta):
    """Of the nearest point at which the path is known."""
    place = round((-np.log(sigma) - FROM) / (TO - FROM) * CELLS)
    return np.exp(2 * eta * (FROM + (TO - FROM) * place / CELLS))


@pytest.mark.parametrize("eta", [1.0, 0.5, 0.05])
@pytest.mark.parametrize("steps", [7, 20, 1000])
def test_increments_are_independent_and_of_unit_variance(steps, eta):
    path = BrownianPath(5, SHAPE)
    drawn = np.stack([path(*pair, eta).ravel() for pair in list(pairwise(levels(steps)))[:25]])
    numbers = drawn.shape[1]
    products = drawn.astype(np.float64) @ drawn.T / numbers
    assert abs(np.diag(products) - 1).max() < 5 * (2 / numbers) ** 0.5
    assert abs(products - np.diag(np.diag(products))).max() < 5 * numbers**-0.5
    first = picture_noise(5, 0, SHAPE).ravel()  # what the picture begins with is no part of it
    assert abs(drawn @ first / numbers).max() < 5 * numbers**-0.5


@pytest.mark.parametrize("eta", [1.0, 0.3])
def test_the_parts_of_an_increment_add_up_to_it(eta):
    def part(path, sigma, after):
        return path(sigma, after, eta) * (time(after, eta) - time(sigma, eta)) ** 0.5

    path = BrownianPath(3, SHAPE)
    whole = part(path, 14.6, 0.03)
    scale = abs(whole).max()
    for steps in (2, 5, 20):
        parts = sum(part(path, *pair) for pair in pairwise(levels(steps)))
        assert abs(parts - whole).max() < 1e-5 * scale


def test_it_does_not_depend_on_what_was_asked_before():
    asked = [(14.6, 3.0), (3.0, 0.5), (0.5, 0.03), (2.0, 1.0)]
    path = BrownianPath(3, SHAPE)
    forth = [path(*pair, 1.0) for pair in asked]
    path(3.0, 1.0, 0.5)  # with another eta it is another path
    back = [path(*pair, 1.0) for pair in asked[::-1]][::-1]
    for one, other, pair in zip(forth, back, asked, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, BrownianPath(3, SHAPE)(*pair, 1.0))


def test_each_picture_of_a_batch_has_its_own():
    both, alone = batch_path([3, 4], SHAPE), batch_path([4], SHAPE)
    together = both(9.0, 4.0, 1.0)
    assert together.shape == (2, *SHAPE) and together.dtype == np.float32
    np.testing.assert_array_equal(together[1:], alone(9.0, 4.0, 1.0))
    assert abs(np.vdot(together[0], together[1])) / together[0].size < 0.1


@pytest.mark.parametrize(
    "pair", [(4096.0, 999.0), (1.0, 0.99999), (0.003, 0.0001), (0.001, 0.0005), (9e9, 8e9)]
)
def test_levels_at_the_edges(pair):
    drawn = BrownianPath(1, SHAPE)(*pair, 1.0)
    assert 0.9 < drawn.std() < 1.1


def test_a_seed_out_of_range_is_named():
    with pytest.raises(InvalidRequest, match="seed is -1"):
        BrownianPath(-1, SHAPE)


def bent(x, sigma):
    """A denoiser that is not linear."""
    return np.tanh(x / (1 + sigma)) * 0.8


def drawn_by(label, steps, path, denoise=bent, noise=None, **options):
    x = 14.6 * picture_noise(2, 0, SHAPE).astype(np.float64)
    *_, last = SAMPLERS[label].function(denoise, x, levels(steps), noise, path=path, **options)
    return last.x


@pytest.mark.parametrize("label", SDE)
def test_more_steps_come_to_one_picture(label):
    """With the path, pictures of more steps differ less and less; with independent draws they do not."""
    along = [drawn_by(label, steps, BrownianPath(2, SHAPE)) for steps in (40, 80, 160)]
    first, second = (abs(one - other).mean() for one, other in pairwise(along))
    assert second < 0.7 * first
    generator = np.random.default_rng(0)
    apart = [drawn_by(label, steps, None, noise=lambda: generator.normal(size=SHAPE)) for steps in (80, 160)]
    assert abs(apart[0] - apart[1]).mean() > 5 * second


@pytest.mark.parametrize("eta", [1.0, 0.5])
@pytest.mark.parametrize("label", SDE)
def test_what_is_linear_does_not_depend_on_the_steps(label, eta):
    """For data in a single point the equation is solved exactly: one picture, whatever the steps."""
    few, many = (
        drawn_by(label, steps, BrownianPath(2, SHAPE), lambda x, sigma: np.full_like(x, 0.7), eta=eta)
        for steps in (4, 32)
    )
    assert abs(few - many).max() < 0.01 * abs(few - 0.7).max()


def test_the_samplers_with_a_path_are_those_of_a_stochastic_equation():
    assert SDE == ["DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"]
