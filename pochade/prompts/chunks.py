"""A prompt of any length as sequences of the length that a text encoder was trained with.

No prompt is cut: its tokens are laid out in chunks of 75, each between a start and an end token, and the
encoder sees each chunk by itself. A prompt of one chunk is exactly what transformers give for
`padding="max_length"`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pochade.errors import InvalidCheckpoint
from pochade.prompts.tokenizer import Tokenizer

Ids = npt.NDArray[np.int64]


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


def end_positions(chunks: Ids, end_id: int) -> npt.NDArray[np.int64]:
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
