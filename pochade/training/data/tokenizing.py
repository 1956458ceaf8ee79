"""Tokenizes captions for a text encoder."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pochade.prompts.layout import chunk, end_positions
from pochade.prompts.tokenizer import Tokenizer

Tokenize = Callable[[list[str]], tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Texts to ids (B, T) and the positions of their end tokens (B,)."""


def tokenize_with(tokenizer: Tokenizer) -> Tokenize:
    """One chunk for each text; a caption that is longer loses its tail."""

    def tokenize(texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return _rows([tokenizer.encode(each) for each in texts], tokenizer)

    return tokenize


def tokenize_with_word(tokenizer: Tokenizer, word: str, stands_for: Sequence[int]) -> Tokenize:
    """The same, with these tokens wherever `word` is written."""

    def tokens(text: str) -> list[int]:
        first, *others = text.split(word)
        ids = list(tokenizer.encode(first))
        for other in others:
            ids += [*stands_for, *tokenizer.encode(other)]
        return ids

    def tokenize(texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return _rows([tokens(each) for each in texts], tokenizer)

    return tokenize


def _rows(ids: Sequence[list[int]], tokenizer: Tokenizer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    room = tokenizer.max_length - 2
    rows = np.concatenate([chunk(each[:room], tokenizer) for each in ids])
    return rows, end_positions(rows, tokenizer.end_id)
