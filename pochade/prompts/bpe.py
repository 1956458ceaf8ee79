"""Byte-pair encoding of one word: from bytes to pieces of words (Sennrich et al. 2016, section 3.2)."""

import heapq
from collections.abc import Mapping, Sequence

Merges = Mapping[tuple[int, int], tuple[int, int]]
"""(left id, right id) -> (rank, id of the two together); the lowest rank is merged first."""

GONE = -1


def byte_alphabet() -> tuple[str, ...]:
    """A visible character for each of the 256 bytes, so that a vocabulary can be kept in a text file.

    Bytes that Latin-1 prints stand for themselves; the others, in their order, are U+0100, U+0101, ...
    (Radford et al. 2019 wrote GPT-2's vocabulary so; CLIP took it over.)
    """
    printed = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printed]
    return tuple(chr(byte) if byte in printed else chr(0x100 + others.index(byte)) for byte in range(256))


def merge(symbols: Sequence[int], merges: Merges) -> list[int]:
    """Merge neighbours, the pair of lowest rank first and the leftmost of equals, until none is left.

    Looking for the best pair anew after each merge takes quadratic time: minutes for a word of 100 kB. With
    a heap of candidates over a linked list it is O(n log n).
    """
    ids = list(symbols)
    count = len(ids)
    following = list(range(1, count + 1))
    preceding = list(range(-1, count - 1))
    candidates: list[tuple[int, int]] = []  # (rank, position of the left one)

    for left in range(count - 1):
        found = merges.get((ids[left], ids[left + 1]))
        if found is not None:
            candidates.append((found[0], left))
    heapq.heapify(candidates)

    while candidates:
        rank, left = heapq.heappop(candidates)
        right = following[left]
        found = merges.get((ids[left], ids[right])) if right < count else None
        if found is None or found[0] != rank:
            continue  # an earlier merge has changed or taken away one of the two
        ids[left], ids[right] = found[1], GONE
        after, before = following[right], preceding[left]
        following[left] = after
        if after < count:
            preceding[after] = left
            found = merges.get((ids[left], ids[after]))
            if found is not None:
                heapq.heappush(candidates, (found[0], left))
        if before >= 0:
            found = merges.get((ids[before], ids[left]))
            if found is not None:
                heapq.heappush(candidates, (found[0], before))
    return [symbol for symbol in ids if symbol != GONE]
