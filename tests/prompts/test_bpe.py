"""BPE merging with a heap, compared with the definition."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from pochade.prompts.tokenizer import Merges, byte_alphabet, merge


def merge_by_definition(symbols: list[int], merges: Merges) -> list[int]:
    ids = list(symbols)
    while True:
        ranked = [
            (merges[pair][0], place) for place, pair in enumerate(itertools.pairwise(ids)) if pair in merges
        ]
        if not ranked:
            return ids
        place = min(ranked)[1]
        ids[place : place + 2] = [merges[ids[place], ids[place + 1]][1]]


@st.composite
def merge_tables(draw: st.DrawFn) -> Merges:
    """Merges over the letters 0..3 and what earlier merges made of them, in any order of ranks."""
    pairs: list[tuple[int, int]] = []
    for new in range(4, 4 + draw(st.integers(0, 12))):
        known = st.integers(0, new - 1)
        pairs.append((draw(known), draw(known)))
    ranks = draw(st.permutations(range(len(pairs))))
    return {pair: (ranks[number], 4 + number) for number, pair in enumerate(pairs)}


@settings(max_examples=500)
@given(st.lists(st.integers(0, 3), max_size=60), merge_tables())
def test_heap_merges_as_the_definition_does(symbols: list[int], merges: Merges) -> None:
    assert merge(symbols, merges) == merge_by_definition(symbols, merges)


def test_the_leftmost_of_equal_pairs_is_merged_first() -> None:
    assert merge([0, 0, 0], {(0, 0): (0, 1)}) == [1, 0]
    assert merge([], {}) == []


def test_a_candidate_that_has_become_another_pair_waits_for_its_own_turn() -> None:
    merges = {(2, 3): (0, 5), (1, 2): (1, 4), (0, 1): (3, 7), (1, 5): (5, 6)}
    # After 2 3 -> 5, the place where 1 2 stood holds 1 5; that pair must not take the turn of 1 2.
    assert merge([0, 1, 2, 3], merges) == [7, 5]


def test_the_alphabet_is_that_of_byte_level_vocabularies() -> None:
    letters = byte_alphabet()
    assert len(set(letters)) == 256
    assert set(letters) == set(pre_tokenizers.ByteLevel.alphabet())
    assert (letters[0], letters[ord(" ")], letters[ord("A")], letters[0xAD]) == ("Ā", "Ġ", "A", "Ń")
