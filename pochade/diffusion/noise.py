"""Noise from a picture's seed, computed on the host and equal on every machine.

The numbers come from a counter-based generator without state: element i of draw d of seed s is a function of
(s, d, i). They are laid out as CUDA's `torch.randn` does for latents of ordinary size, known as 'NV' random
numbers, so a shared seed gives the same noise here. `diffusion.torch_noise` computes those of torch on a CPU.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import prod

import numpy as np
from numpy.typing import NDArray

from pochade.diffusion.torch_noise import TorchStream
from pochade.errors import InvalidRequest
from pochade.request import RNG_CPU, RNG_NV

Words = NDArray[np.uint32]

LOW = np.uint64(0xFFFFFFFF)
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
KEY_STEPS = 0x9E3779B9, 0xBB67AE85


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Philox-4x32-10: four random words for each counter (Salmon et al. 2011, section 3.3).

    counter: (4, N), key: two 32-bit words -> (4, N).
    """
    c0, c1, c2, c3 = (np.asarray(word, np.uint64) for word in counter)
    k0, k1 = key
    for _ in range(10):
        product0, product1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (product1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            product1 & LOW,
            (product0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            product0 & LOW,
        )
        k0, k1 = (k0 + KEY_STEPS[0]) & 0xFFFFFFFF, (k1 + KEY_STEPS[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3]).astype(np.uint32)


def picture_noise(seed: int, draw: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return unit-normal float32 noise of one picture, shape (C, H, W): draw 0 is its starting noise.

    Computed from the first two words of Philox with key = seed and counter = (draw, 0, element, 0), elements
    in C order. Equal to the numbers of a CUDA device up to the rounding of its float32 functions.
    """
    check_seed(seed)
    elements = prod(shape)
    counter = np.zeros((4, elements), np.uint32)
    counter[0] = draw
    counter[2] = np.arange(elements, dtype=np.uint32)
    first, second, _, _ = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))
    return box_muller(first, second).astype(np.float32).reshape(shape)


def box_muller(first: Words, second: Words) -> NDArray[np.float64]:
    """Return one unit-normal number from two random words each (Box and Muller 1958): (N,), (N,) -> (N,)."""
    uniform = (first + 0.5) * 2.0**-32  # centres of 2^32 cells: never 0, whose logarithm is not finite
    angle = (second + 0.5) * (2.0**-32 * 2 * np.pi)
    normal: NDArray[np.float64] = np.sqrt(-2 * np.log(uniform)) * np.sin(angle)
    return normal


@dataclass(frozen=True)
class PictureNoise:
    """One picture's stream of noise: each call is the next draw of its seed (0 to 2^64 - 1)."""

    seed: int
    _draws: "count[int]" = field(default_factory=count, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_seed(self.seed)

    def __call__(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return picture_noise(self.seed, next(self._draws), shape)


def noise_stream(seed: int, rng: str = RNG_NV) -> Callable[[tuple[int, ...]], NDArray[np.float32]]:
    """Return one picture's stream of noise: each call makes the next draw of its seed, in the given shape.

    rng: the source of the numbers, a name of `request.RNGS`. Raises InvalidRequest for a seed outside 0 to
    2^64 - 1.
    """
    if rng == RNG_CPU:
        check_seed(seed)
        return TorchStream(seed)
    return PictureNoise(seed)


def batch_noise(
    seeds: Sequence[int], shape: tuple[int, int, int], rng: str = RNG_NV
) -> Callable[[], NDArray[np.float32]]:
    """Return a function that draws noise for a batch: (B, C, H, W) float32, one seed per picture.

    A picture's noise depends only on its own seed, not on the rest of the batch. rng: as in `noise_stream`.
    """
    pictures = [noise_stream(seed, rng) for seed in seeds]
    return lambda: np.stack([picture(shape) for picture in pictures])


def slerp(one: NDArray[np.float32], other: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Spherical interpolation from `one` (share 0) to `other` (share 1), which keeps the variance of
    unit-normal noise (Shoemake 1985)."""
    lengths = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    cosine = float(np.vdot(one, other)) / lengths if lengths else 1.0
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    if np.sin(angle) < 1e-4:  # the same direction, or exactly the opposite one
        return np.float32(1 - share) * one + np.float32(share) * other
    weights = np.sin((1 - share) * angle) / np.sin(angle), np.sin(share * angle) / np.sin(angle)
    return np.float32(weights[0]) * one + np.float32(weights[1]) * other


def set_in(small: NDArray[np.float32], large: NDArray[np.float32]) -> NDArray[np.float32]:
    """Place `small` (C, h, w) in the middle of `large` (C, H, W); `small` is cropped where it is larger."""
    result = large.copy()
    rows, columns = (min(small.shape[axis], large.shape[axis]) for axis in (1, 2))
    _middle(result, rows, columns)[:] = _middle(small, rows, columns)
    return result


def _middle(noise: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    top, left = (noise.shape[1] - rows) // 2, (noise.shape[2] - columns) // 2
    return noise[:, top : top + rows, left : left + columns]


def check_seed(seed: int) -> None:
    """Raise InvalidRequest for a seed outside 0 to 2^64 - 1."""
    if not 0 <= seed < 2**64:
        raise InvalidRequest(f"seed is {seed}; it must lie between 0 and 2^64 - 1")
