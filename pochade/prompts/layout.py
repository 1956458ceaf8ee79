"""A prompt as tokens with weights, in chunks, as A1111's web UI lays it out.

A chunk holds 75 tokens. When one is full and the text goes on, what stands behind its last comma moves to the
next chunk with it, if that are fewer than 20 tokens: a phrase is encoded in one piece. BREAK ends a chunk
where it stands. A text encoder sees each chunk by itself, between a start and an end token; a prompt of one
chunk is exactly what transformers give for `padding="max_length"`.
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
"""A prompt without any of these is one section, all of which counts alike."""

BACKTRACK = 20
"""How many tokens from the end of a chunk a comma is looked for."""


@dataclass(frozen=True)
class ChunkLayout:
    """chunks: the tokens of each, without start and end. weights: of each token, in the same shape."""

    chunks: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[float, ...], ...]

    @property
    def tokens(self) -> int:
        """How many there are in the text; the places that BREAK leaves empty are not counted."""
        return sum(map(len, self.chunks))


def lay_out(
    prompt: str, tokenizer: Tokenizer, backtrack: int = BACKTRACK, *, literal: bool = False
) -> ChunkLayout:
    """Read a prompt with emphasis and BREAK. An empty one has one empty chunk; so has a BREAK without text
    before it. backtrack: 0 fills each chunk to its end. literal: all of it is text, brackets and BREAK too.
    """
    room = tokenizer.max_length - 2
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
                if len(current) == room:
                    near = after_comma > 0 and room - after_comma < backtrack
                    place = after_comma if near and run != (comma,) else room
                    chunks.append(current[:place])
                    current, after_comma = current[place:], 0
                if len(current) + len(run) > room:  # the vectors of a new word stay together
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
    """Tokens and their weights with start, end and padding, both (chunks, max_length).

    What is not text has weight 1, and so have the empty chunks behind it, up to `chunks`.
    """
    more = chunks - len(layout.chunks)
    ids = fill([*layout.chunks, *[()] * more], tokenizer)
    weights = np.ones(ids.shape, np.float32)
    for row, given in zip(weights, layout.weights, strict=False):
        row[1 : 1 + len(given)] = given
    return ids, weights


def chunk_count(ids: Sequence[int], tokenizer: Tokenizer) -> int:
    """How many chunks a prompt fills; an empty one fills one."""
    room = tokenizer.max_length - 2
    return max(1, -(-len(ids) // room))


def chunk(ids: Sequence[int], tokenizer: Tokenizer, chunks: int | None = None) -> Ids:
    """Lay ids (without start and end) out as (chunks, max_length), with empty chunks after the last token.

    chunks: None takes as many as are needed. Raises ValueError if more are needed than given.
    """
    needed = chunk_count(ids, tokenizer)
    chunks = needed if chunks is None else chunks
    if chunks < needed:
        raise ValueError(f"{len(ids)} tokens need {needed} chunks; {chunks} were given")
    room = tokenizer.max_length - 2
    return fill([ids[number * room : (number + 1) * room] for number in range(chunks)], tokenizer)


def fill(parts: Sequence[Sequence[int]], tokenizer: Tokenizer) -> Ids:
    """Each part between a start and an end token, padded: (parts, max_length)."""
    rows = np.full((len(parts), tokenizer.max_length), tokenizer.pad_id, dtype=np.int64)
    rows[:, 0] = tokenizer.start_id
    for row, part in zip(rows, parts, strict=True):
        row[1 : 1 + len(part)] = part
        row[1 + len(part)] = tokenizer.end_id
    return rows


def end_positions(chunks: Ids, end_id: int) -> NDArray[np.int64]:
    """Where each sequence's first end token is: (..., T) -> (...). There CLIP pools.

    end_id: the text encoder's `eos_token_id`, except that configurations of before 2023 say 2, which means
        the highest id in the vocabulary: the tokenizer's own end token.

    Raises InvalidCheckpoint if a sequence has none.
    """
    ends = chunks == end_id
    if not ends.any(axis=-1).all():
        raise InvalidCheckpoint(
            f"the text encoder's eos_token_id {end_id} is not in the token sequence; its config.json does not"
            " belong to this tokenizer"
        )
    return np.asarray(ends.argmax(axis=-1), dtype=np.int64)
