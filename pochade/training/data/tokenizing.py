"""Tokenizes captions for a text encoder."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pochade.prompts.layout import chunk, end_positions
from pochade.prompts.tokenizer import Tokenizer

Tokenize = Callable[[list[str]], tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Converts texts to ids (B, T) and the positions of their end tokens (B,)."""


def tokenize_with(tokenizer: Tokenizer) -> Tokenize:
    """Return a function that tokenizes each text to one chunk; longer captions are truncated."""

    def tokenize(texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return _rows([tokenizer.encode(each) for each in texts], tokenizer)

    return tokenize


def tokenize_with_word(tokenizer: Tokenizer, word: str, replacement: Sequence[int]) -> Tokenize:
    """Like `tokenize_with`, but replace `word` by the given tokens."""

    def tokens(text: str) -> list[int]:
        first, *others = text.split(word)
        ids = list(tokenizer.encode(first))
        for other in others:
            ids += [*replacement, *tokenizer.encode(other)]
        return ids

    def tokenize(texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return _rows([tokens(each) for each in texts], tokenizer)

    return tokenize


def _rows(ids: Sequence[list[int]], tokenizer: Tokenizer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    capacity = tokenizer.max_length - 2
    rows = np.concatenate([chunk(each[:capacity], tokenizer) for each in ids])
    return rows, end_positions(rows, tokenizer.end_id)
