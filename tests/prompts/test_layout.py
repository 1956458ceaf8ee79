"""Chunk boundaries (75 tokens, a comma, BREAK) and token weights."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pochade.prompts.layout import chunk, lay_out, rows
from pochade.prompts.tokenizer import Tokenizer
from pochade.prompts.tokenizer_files import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(sd1_folder: Path) -> Tokenizer:
    return load_tokenizer(sd1_folder)


def words(count: int) -> str:
    """So many tokens, none of them a comma."""
    return "the " * count


def lengths(prompt: str, tokenizer: Tokenizer, **options: int) -> list[int]:
    return [len(each) for each in lay_out(prompt, tokenizer, **options).chunks]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", [0]),
        (words(75), [75]),
        (words(76), [75, 1]),
        (words(160), [75, 75, 10]),
        # a comma among the last 20 of a full chunk: what is behind it moves, if the text goes on
        (words(60) + "," + words(14), [75]),
        (words(60) + "," + words(15), [61, 15]),
        (words(60) + "," + words(90), [61, 75, 15]),
        (words(55) + "," + words(30), [56, 30]),  # the twentieth from the end
        (words(54) + "," + words(30), [75, 10]),  # the one before it
        (words(74) + "," + words(30), [75, 30]),
        (words(73) + "," + words(30), [74, 30]),
        (words(75) + "," + words(30), [75, 31]),  # the chunk is full, so the comma begins the next
        (words(60) + "," + words(14) + "," + words(5), [75, 6]),  # what follows a full chunk is a comma
        (words(57) + "," + words(5) + "," + words(30), [64, 30]),  # the last one counts
        (words(20) + "," + words(45) + "," + words(30), [67, 30]),
        (words(60) + "," + words(70) + "," + words(20), [61, 71, 20]),
        # BREAK
        ("the BREAK the", [1, 1]),
        ("BREAK the", [0, 1]),
        ("the BREAK", [1]),
        ("BREAK BREAK", [0, 0]),
        (words(75) + "BREAK the", [75, 1]),
        (words(80) + "BREAK " + words(80), [75, 5, 75, 5]),
        (words(60) + ", BREAK " + words(80), [61, 75, 5]),
        # brackets are no tokens, and a comma in them counts as well
        ("(" + words(60) + ",:1.2)" + words(15), [61, 15]),
    ],
)
def test_where_chunks_end(prompt: str, expected: list[int], tokenizer: Tokenizer) -> None:
    assert lengths(prompt, tokenizer) == expected
    assert lay_out(prompt, tokenizer).tokens == sum(expected)


def test_no_backtracking_and_another_reach(tokenizer: Tokenizer) -> None:
    prompt = words(60) + "," + words(30)
    assert lengths(prompt, tokenizer, backtrack=0) == [75, 16]
    assert lengths(prompt, tokenizer, backtrack=15) == [61, 30]
    assert lengths(prompt, tokenizer, backtrack=14) == [75, 16]


@given(
    parts=st.lists(st.sampled_from(["the", "fox", ",", "(red:1.3)", "[snow]", "BREAK"]), max_size=300),
    backtrack=st.integers(0, 30),
)
def test_no_token_is_lost_or_moved(parts: list[str], backtrack: int, tokenizer: Tokenizer) -> None:
    layout = lay_out(" ".join(parts), tokenizer, backtrack)
    plain = [part.strip("()[]").removesuffix(":1.3") for part in parts if part != "BREAK"]
    assert [token for each in layout.chunks for token in each] == tokenizer.encode(" ".join(plain))
    expected = [{"(red:1.3)": 1.3, "[snow]": 1 / 1.1}.get(part, 1.0) for part in parts if part != "BREAK"]
    weights = [weight for each in layout.weights for weight in each]
    assert weights == pytest.approx(expected)
    assert all(len(each) <= 75 for each in layout.chunks)


@given(parts=st.lists(st.sampled_from(["the", "fox", "4k!", "it's", "狐"]), max_size=250))
def test_without_grammar_and_commas_it_is_the_plain_layout(parts: list[str], tokenizer: Tokenizer) -> None:
    prompt = " ".join(parts)
    layout = lay_out(prompt, tokenizer)
    ids, weights = rows(layout, tokenizer, len(layout.chunks))
    np.testing.assert_array_equal(ids, chunk(tokenizer.encode(prompt), tokenizer))
    assert (weights == 1).all()


def test_rows(tokenizer: Tokenizer) -> None:
    """Start, end, padding and the chunks that were asked for beyond the text weigh one."""
    ids, weights = rows(lay_out("the (red:1.5) fox BREAK [the]", tokenizer), tokenizer, 3)
    the, red, fox = (tokenizer.encode(word)[0] for word in ("the", "red", "fox"))
    start, end = tokenizer.start_id, tokenizer.end_id
    assert ids.shape == weights.shape == (3, 77)
    assert ids[0, :5].tolist() == [start, the, red, fox, end]
    assert ids[1, :3].tolist() == [start, the, end]
    assert ids[2, :2].tolist() == [start, end]
    expected = np.ones((3, 77), np.float32)
    expected[0, 2], expected[1, 1] = 1.5, 1 / 1.1
    np.testing.assert_allclose(weights, expected)


def test_a_vocabulary_without_a_comma() -> None:
    bare = Tokenizer(
        vocabulary={"a</w>": 5},
        merges={},
        specials=(),
        start_id=0,
        end_id=1,
        pad_id=1,
        unknown_id=2,
        max_length=7,
    )
    assert lay_out("a, a, a, a, a", bare).chunks == ((5, 2, 5, 2, 5), (2, 5, 2, 5))
