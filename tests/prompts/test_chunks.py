"""Long prompts in chunks; short ones as transformers pad them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from pochade.errors import InvalidCheckpoint
from pochade.prompts.layout import chunk, chunk_count, end_positions
from pochade.prompts.tokenizer import Tokenizer
from pochade.prompts.tokenizer_files import load_tokenizer

START, END, PAD = 100, 101, 0


def tokenizer(max_length: int = 77) -> Tokenizer:
    return Tokenizer(
        vocabulary={},
        merges={},
        specials=(),
        start_id=START,
        end_id=END,
        pad_id=PAD,
        unknown_id=END,
        max_length=max_length,
    )


@pytest.mark.parametrize("family", ["sd1_folder", "sd2_folder"])
@pytest.mark.parametrize("words", [0, 1, 74, 75])
def test_one_chunk_is_what_transformers_pad(family: str, words: int, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(family)
    text = " ".join(["the"] * words)
    reference = CLIPTokenizer.from_pretrained(str(folder))(
        text, padding="max_length", max_length=77, truncation=True
    )["input_ids"]
    ours = load_tokenizer(folder)
    rows = chunk(ours.encode(text), ours)
    assert rows.shape == (1, 77) and rows.dtype == np.int64
    assert rows[0].tolist() == reference


@given(st.lists(st.integers(1, 99), max_size=400), st.integers(0, 3))
def test_no_token_is_lost_or_moved(ids: list[int], more: int) -> None:
    count = max(1, (len(ids) + 74) // 75)
    assert chunk_count(ids, tokenizer()) == count
    rows = chunk(ids, tokenizer(), chunks=count + more)
    assert rows.shape == (count + more, 77)
    assert (rows[:, 0] == START).all()
    assert ((rows == END).sum(axis=1) == 1).all()
    ends = end_positions(rows, END)
    inside = [number for row, end in zip(rows, ends, strict=True) for number in row[1:end].tolist()]
    assert inside == ids
    for row, end in zip(rows, ends, strict=True):
        assert (row[end + 1 :] == PAD).all()
    assert (ends[count:] == 1).all()  # the chunks that were asked for beyond the text are empty


def test_76_tokens_fill_a_chunk_and_begin_another() -> None:
    rows = chunk(list(range(1, 77)), tokenizer())
    assert rows[0].tolist() == [START, *range(1, 76), END]
    assert rows[1].tolist() == [START, 76, END, *[PAD] * 74]


def test_too_few_chunks_are_refused_not_cut() -> None:
    with pytest.raises(ValueError, match=r"76 tokens need 2 chunks; 1 were given"):
        chunk([7] * 76, tokenizer(), chunks=1)


def test_other_lengths_than_clips() -> None:
    rows = chunk([1, 2, 3, 4], tokenizer(max_length=5))
    assert rows.tolist() == [[START, 1, 2, 3, END], [START, 4, END, PAD, PAD]]


def test_the_first_end_token_counts() -> None:
    """So it does in transformers, whose argmax finds the first: in prompts padded with the end token, and
    in one that holds an end token itself."""
    rows = np.array([[[START, 5, END, END], [START, END, 6, END]]])
    assert end_positions(rows, END).tolist() == [[2, 1]]


def test_an_end_token_of_another_vocabulary_is_an_error() -> None:
    with pytest.raises(InvalidCheckpoint, match=r"eos_token_id 2 is not in the token sequence"):
        end_positions(chunk([7], tokenizer()), 2)


def test_100_kb_of_prompt_become_chunks(sd1_folder: Path) -> None:
    ours = load_tokenizer(sd1_folder)
    ids = ours.encode("the " * 25_000)
    assert len(ids) == 25_000
    rows = chunk(ids, ours)
    assert rows.shape == (334, 77)
    assert int((rows == ours.vocabulary["the</w>"]).sum()) == 25_000
