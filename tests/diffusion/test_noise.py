"""Host noise: known answers of the generator, and the numbers that a CUDA device draws."""

import numpy as np
import pytest

from pochade.diffusion.noise import PictureNoise, batch_noise, box_muller, philox, picture_noise
from pochade.errors import InvalidRequest


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [  # the known answers that come with Random123 (Salmon et al. 2011)
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_known_answers(counter, key, answer):
    def words(text):
        return [int(word, 16) for word in text.split()]

    k0, k1 = words(key)
    counters = np.array(words(counter), np.uint32).reshape(4, 1).repeat(3, axis=1)
    result = philox(counters, (k0, k1))
    assert result.dtype == np.uint32
    assert result.T.tolist() == [words(answer)] * 3


def test_the_numbers_of_a_cuda_device():
    """`torch.manual_seed(0); torch.randn(3, 4, device="cuda")`, as often printed in documentation."""
    expected = [
        [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
        [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
        [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
    ]
    np.testing.assert_allclose(picture_noise(0, 0, (3, 4)), expected, rtol=1e-6)


def test_box_muller_on_the_first_two_words():
    seed, draw = (7 << 32) + 5, 3
    noise = picture_noise(seed, draw, (2, 2, 3)).reshape(-1)
    for element in range(12):
        counter = np.array([draw, 0, element, 0], np.uint32).reshape(4, 1)
        x, y = (int(word) for word in philox(counter, (5, 7))[:2, 0])
        radius = np.sqrt(-2 * np.log(x * 2**-32 + 2**-33))
        assert noise[element] == np.float32(radius * np.sin(y * 2**-32 * 2 * np.pi + 2**-33 * 2 * np.pi))


def test_the_longest_and_the_shortest_radius():
    """Word 0 stands for a uniform number of 2^-33, the last word for 1 - 2^-33."""
    first = np.array([0, 0, 2**32 - 1], np.uint32)
    second = np.array([2**30, 3 * 2**30, 2**30], np.uint32)  # a quarter and three quarters of the circle
    longest = (66 * np.log(2)) ** 0.5
    np.testing.assert_allclose(box_muller(first, second), [longest, -longest, 2**-16], rtol=1e-9)


def test_noise_is_unit_normal():
    noise = picture_noise(1234, 0, (4, 256, 256)).astype(np.float64).ravel()
    assert noise.size == 2**18  # so a moment's standard error is about sqrt(k) / 512
    assert abs(noise.mean()) < 4 / 512
    assert abs((noise**2).mean() - 1) < 4 * 2**0.5 / 512
    assert abs((noise**3).mean()) < 4 * 15**0.5 / 512
    assert abs((noise**4).mean() - 3) < 4 * 96**0.5 / 512
    assert abs((noise[1:] * noise[:-1]).mean()) < 4 / 512
    assert np.isfinite(noise).all()


def test_each_call_is_the_next_draw():
    stream = PictureNoise(9)
    for draw in range(3):
        noise = stream((4, 8, 8))
        assert noise.dtype == np.float32
        np.testing.assert_array_equal(noise, picture_noise(9, draw, (4, 8, 8)))
    assert not np.array_equal(picture_noise(9, 0, (4, 8, 8)), picture_noise(9, 1, (4, 8, 8)))


def test_two_streams_of_one_seed_do_not_share_draws():
    first, second = PictureNoise(9), PictureNoise(9)
    first((4,))
    np.testing.assert_array_equal(first((4,)), picture_noise(9, 1, (4,)))
    np.testing.assert_array_equal(second((4,)), picture_noise(9, 0, (4,)))


def test_a_picture_does_not_depend_on_its_batch():
    batch, alone = batch_noise([3, 4, 2**40], (4, 6, 5)), batch_noise([4], (4, 6, 5))
    for _ in range(3):
        together, single = batch(), alone()
        assert together.shape == (3, 4, 6, 5)
        assert together.dtype == np.float32
        np.testing.assert_array_equal(together[1:2], single)
        assert len({picture.tobytes() for picture in together}) == 3


def test_both_words_of_a_seed_count():
    seeds = [0, 1, 1 << 32, (1 << 32) + 1, 2**64 - 1]
    assert len({picture_noise(seed, 0, (16,)).tobytes() for seed in seeds}) == len(seeds)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_named(seed):
    with pytest.raises(InvalidRequest, match=f"seed is {seed}"):
        PictureNoise(seed)
    with pytest.raises(InvalidRequest, match=f"seed is {seed}"):
        picture_noise(seed, 0, (4,))
