"""Splits a prompt into chunks of tokens with weights, as A1111's web UI does.

A chunk holds 75 tokens. When a chunk is full, the text after its last comma moves to the next chunk if it has
fewer than 20 tokens, so that a phrase is not split. BREAK ends a chunk. A text encoder reads each chunk
separately, between a start and an end token; a prompt of one chunk equals the result of transformers with
`padding="max_length"`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pochade.errors import InvalidCheckpoint
from pochade.prompts.attention import Span, sections
from pochade.prompts.tokenizer import GONE, WORD_END, Tokenizer

Ids = NDArray[np.int64]

EMPHASIS = re.compile(r"[()\[\]\\]|BREAK")
"""A prompt without any of these has one section with neutral weights."""

BACKTRACK = 20
"""How many tokens back from the end of a chunk a comma is searched."""


@dataclass(frozen=True)
class ChunkLayout:
    """A prompt in chunks. chunks: tokens without start and end. weights: one per token, in the same shape."""

    chunks: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[float, ...], ...]

    @property
    def tokens(self) -> int:
        """The number of tokens in the text, without padding."""
        return sum(map(len, self.chunks))


def lay_out(
    prompt: str, tokenizer: Tokenizer, backtrack: int = BACKTRACK, *, literal: bool = False
) -> ChunkLayout:
    """Split a prompt with emphasis and BREAK into chunks. An empty prompt has one empty chunk, and so has a
    BREAK without text before it.

    backtrack: how far to search for a comma; 0 fills each chunk completely. literal: treat brackets and BREAK
        as text.
    """
    capacity = tokenizer.max_length - 2
    comma = tokenizer.vocabulary.get(f",{WORD_END}", GONE)
    chunks: list[list[tuple[int, float]]] = []
    current: list[tuple[int, float]] = []
    after_comma = 0  # where the phrase at the end of the current chunk begins; 0 if there is no comma
    literal = literal or EMPHASIS.search(prompt) is None
    for number, section in enumerate([[Span(prompt, 1.0)]] if literal else sections(prompt)):
        if number > 0:
            chunks.append(current)
            current, after_comma = [], 0
        for text, weight in section:
            for run in tokenizer.encode_runs(text):
                if len(current) == capacity:
                    near = after_comma > 0 and capacity - after_comma < backtrack
                    place = after_comma if near and run != (comma,) else capacity
                    chunks.append(current[:place])
                    current, after_comma = current[place:], 0
                if len(current) + len(run) > capacity:  # the vectors of an embedding are not split
                    chunks.append(current)
                    current, after_comma = [], 0
                current += [(token, weight) for token in run]
                if run == (comma,):
                    after_comma = len(current)
    if current or not chunks:
        chunks.append(current)
    return ChunkLayout(
        tuple(tuple(token for token, _ in chunk) for chunk in chunks),
        tuple(tuple(weight for _, weight in chunk) for chunk in chunks),
    )


def rows(layout: ChunkLayout, tokenizer: Tokenizer, chunks: int) -> tuple[Ids, NDArray[np.float32]]:
    """Return tokens and weights with start, end and padding, both (chunks, max_length).

    Start, end and padding have weight 1, and so have the empty chunks that are appended up to `chunks`.
    """
    more = chunks - len(layout.chunks)
    ids = fill([*layout.chunks, *[()] * more], tokenizer)
    weights = np.ones(ids.shape, np.float32)
    for row, given in zip(weights, layout.weights, strict=False):
        row[1 : 1 + len(given)] = given
    return ids, weights


def chunk_count(ids: Sequence[int], tokenizer: Tokenizer) -> int:
    """Return the number of chunks of a prompt; at least one."""
    capacity = tokenizer.max_length - 2
    return max(1, -(-len(ids) // capacity))


def chunk(ids: Sequence[int], tokenizer: Tokenizer, chunks: int | None = None) -> Ids:
    """Arrange ids (without start and end) as (chunks, max_length), with empty chunks after the last token.

    chunks: None means as many as needed. Raises ValueError if that is more than given.
    """
    needed = chunk_count(ids, tokenizer)
    chunks = needed if chunks is None else chunks
    if chunks < needed:
        raise ValueError(f"{len(ids)} tokens need {needed} chunks; {chunks} were given")
    capacity = tokenizer.max_length - 2
    return fill([ids[number * capacity : (number + 1) * capacity] for number in range(chunks)], tokenizer)


def fill(parts: Sequence[Sequence[int]], tokenizer: Tokenizer) -> Ids:
    """Put each part between a start and an end token, padded: (parts, max_length)."""
    rows = np.full((len(parts), tokenizer.max_length), tokenizer.pad_id, dtype=np.int64)
    rows[:, 0] = tokenizer.start_id
    for row, part in zip(rows, parts, strict=True):
        row[1 : 1 + len(part)] = part
        row[1 + len(part)] = tokenizer.end_id
    return rows


def end_positions(chunks: Ids, end_id: int) -> NDArray[np.int64]:
    """Return the position of each sequence's first end token, where CLIP pools: (..., T) -> (...).

    end_id: the text encoder's `eos_token_id`. Configurations from before 2023 have 2, which means the
        highest id in the vocabulary: the tokenizer's end token.

    Raises InvalidCheckpoint if a sequence has no end token.
    """
    ends = chunks == end_id
    if not ends.any(axis=-1).all():
        raise InvalidCheckpoint(
            f"the text encoder's eos_token_id {end_id} is not in the token sequence; its config.json does not"
            " belong to this tokenizer"
        )
    return np.asarray(ends.argmax(axis=-1), dtype=np.int64)
