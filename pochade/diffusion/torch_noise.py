"""The random numbers of `torch.randn` on a CPU, without torch.

A1111 calls them "RNG: CPU"; ComfyUI and diffusers draw them too. They come from a stateful generator:
unlike those of `picture_noise`, a draw depends on how many numbers were drawn before it.
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

BLOCK = 16
"""Numbers that torch generates at once: the first half of a block are radii, the second half angles."""


class TorchStream:
    """Equivalent to `torch.Generator().manual_seed(seed)`: each call returns the next float32 `torch.randn`.

    Results agree to 1e-6, since logarithms and sines are rounded differently. Only the lower 32 bits of the
    seed are used, as in torch (MT19937, Matsumoto and Nishimura 1998).
    """

    def __init__(self, seed: int) -> None:
        self._state = np.random.RandomState(seed & 0xFFFFFFFF)
        self._spare: float | None = None

    def __call__(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        count = prod(shape)
        numbers = self._few(count) if count < BLOCK else self._many(count)
        return numbers.astype(np.float32).reshape(shape)

    def _words(self, count: int) -> NDArray[np.uint32]:
        words: NDArray[np.uint32] = self._state.randint(0, 2**32, count, dtype=np.uint32)
        return words

    def _many(self, count: int) -> NDArray[np.float64]:
        """Generate whole blocks; an incomplete last block is replaced by a whole one that ends with it, as in
        torch."""
        result = np.empty(count)
        whole = count // BLOCK * BLOCK
        uniform = self._uniform(count)
        result[:whole] = _normal(uniform[:whole])
        if whole < count:
            result[-BLOCK:] = _normal(self._uniform(BLOCK))
        return result

    def _uniform(self, count: int) -> NDArray[np.float64]:
        return (self._words(count) & np.uint32(2**24 - 1)).astype(np.float64) * 2.0**-24

    def _few(self, count: int) -> NDArray[np.float64]:
        """Generate pairs from 53-bit numbers; the second of a pair is kept for the next call."""
        result = np.empty(count)
        for i in range(count):
            if self._spare is not None:
                result[i], self._spare = self._spare, None
                continue
            first, second = self._wide(), self._wide()
            radius = np.sqrt(-2 * np.log1p(-second))
            result[i] = radius * np.cos(2 * np.pi * first)
            self._spare = float(radius * np.sin(2 * np.pi * first))
        return result

    def _wide(self) -> float:
        high, low = (int(word) for word in self._words(2))
        return ((high << 32 | low) & (2**53 - 1)) * 2.0**-53


def _normal(uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Box and Muller 1958, block by block: (16 n,) -> (16 n,)."""
    first, second = np.split(uniform.reshape(-1, 2, BLOCK // 2), 2, axis=1)
    radius = np.sqrt(-2 * np.log(1 - first))
    angle = second.astype(np.float32) * np.float32(
        2 * np.pi
    )  # rounded as in torch: it affects the sixth decimal
    angle = angle.astype(np.float64)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
