"""A cache of encoded texts, so that the next picture with the same prompt need not encode it again."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Encoded = tuple[Array, ...]

TEXTS_BYTES = 64 * 10**6
"""About 270 chunks of 77 tokens for SD 1.5, 100 for XL."""


class EncodedTexts:
    """Encoded chunks of tokens, of at most `budget_bytes`; the least recently used are dropped first.

    Threads may share it.
    """

    def __init__(self, budget_bytes: int = TEXTS_BYTES) -> None:
        self.budget_bytes = budget_bytes
        self._kept: OrderedDict[Hashable, Encoded] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        with self._lock:
            return sum(_size(each) for each in self._kept.values())

    def of(self, key: Hashable, encode: Callable[[], Encoded]) -> Encoded:
        """Return the cached result of the key, or that of `encode`. It must not be modified.

        key: identifies the encoder's weights, its options, and the tokens.
        """
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        made = encode()
        for array in made:
            array.setflags(write=False)
        with self._lock:
            self._kept[key] = made
            self._kept.move_to_end(key)
            total = sum(_size(each) for each in self._kept.values())
            while total > self.budget_bytes:
                total -= _size(self._kept.popitem(last=False)[1])
        return made


def _size(encoded: Encoded) -> int:
    return sum(array.nbytes for array in encoded)
