"""Captions as a text encoder reads them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pochade.prompts.chunks import chunk, end_positions
from pochade.prompts.tokenizer import Tokenizer

Tokenize = Callable[[list[str]], tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Texts to ids (B, T) and the positions of their end tokens (B,)."""


def tokenize_with(tokenizer: Tokenizer) -> Tokenize:
    """One chunk for each text; a caption that is longer loses its tail."""

    def tokenize(texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        room = tokenizer.max_length - 2
        rows = np.concatenate([chunk(tokenizer.encode(each)[:room], tokenizer) for each in texts])
        return rows, end_positions(rows, tokenizer.end_id)

    return tokenize
