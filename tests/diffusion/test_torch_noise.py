"""torch's CPU noise, generated without torch."""

import numpy as np
import pytest
import torch

from pochade.diffusion.noise import batch_noise, noise_stream
from pochade.diffusion.torch_noise import TorchStream
from pochade.errors import InvalidRequest
from pochade.request import RNG_CPU

SEEDS = [0, 1, 2**31, 2**32 - 1, 2**32 + 5, 2**63 - 1]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "counts",
    [
        [*range(1, 34)],  # on both sides of 16, below which numbers are made in another way
        [15, 16, 17, 1, 3, 33, 2, 31, 1],  # one left over waits for the next draw of fewer than 16
        [16384, 16384, 4 * 5 * 7],
    ],
    ids=["short", "mixed", "latents"],
)
def test_the_numbers_of_torch(seed: int, counts: list[int]) -> None:
    generator, stream = torch.Generator().manual_seed(seed), TorchStream(seed)
    for count in counts:
        expected = torch.randn(count, generator=generator).numpy()
        drawn = stream((count,))
        assert drawn.dtype == np.float32
        np.testing.assert_allclose(drawn, expected, rtol=0, atol=1e-6)


def test_a_seed_of_more_than_63_bits() -> None:
    """torch takes -1 for 2^64 - 1; of both the lower 32 bits count."""
    expected = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(-1)).numpy()
    np.testing.assert_allclose(TorchStream(2**64 - 1)((4, 8, 8)), expected, rtol=0, atol=1e-6)


def test_each_picture_of_a_batch_has_its_own_generator() -> None:
    together, alone = batch_noise([3, 4], (4, 6, 5), RNG_CPU), batch_noise([4], (4, 6, 5), RNG_CPU)
    generator = torch.Generator().manual_seed(4)
    for _ in range(3):
        both, single = together(), alone()
        np.testing.assert_array_equal(both[1:], single)
        expected = torch.randn(4, 6, 5, generator=generator).numpy()
        np.testing.assert_allclose(single[0], expected, rtol=0, atol=1e-6)


def test_a_seed_out_of_range_is_named() -> None:
    with pytest.raises(InvalidRequest, match="seed is -1"):
        noise_stream(-1, RNG_CPU)
