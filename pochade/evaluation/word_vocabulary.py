"""The scorer's vocabulary: a caption becomes a short row of numbers, one per word."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

NOTHING, UNKNOWN = 0, 1
"""The numbers of padding and of unknown words."""


@dataclass(frozen=True)
class Vocabulary:
    """The known words; word i has the number i + 2."""

    known: tuple[str, ...]

    @cached_property
    def numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.known, start=UNKNOWN + 1)}

    def __len__(self) -> int:
        """How many numbers there are."""
        return len(self.known) + UNKNOWN + 1

    def rows(self, texts: Sequence[str], length: int) -> NDArray[np.int64]:
        """Numbers of the words (N, length); what is longer loses its tail."""
        rows = np.full((len(texts), length), NOTHING, np.int64)
        for row, text in zip(rows, texts, strict=True):
            numbers = [self.numbers.get(word, UNKNOWN) for word in split(text)[:length]]
            row[: len(numbers)] = numbers
        return rows


def word_weights(rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The weight of each word in its text, (N, length) -> (N, length, 1); in all 1, or 0 without a word."""
    there = (rows != NOTHING).astype(np.float32)
    weights: NDArray[np.float32] = there / there.sum(axis=1, keepdims=True).clip(min=1)
    return weights[..., None]


def split(text: str) -> list[str]:
    """As in "women's room, 3d style" -> women's, room, 3d, style."""
    return re.findall(r"[\w'!?]+", text.lower())


def build_vocabulary(texts: Iterable[str]) -> Vocabulary:
    """Every word of the texts, in alphabetical order."""
    return Vocabulary(tuple(sorted({word for text in texts for word in split(text)})))
