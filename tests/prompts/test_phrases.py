"""Phrases that are replaced by token ids."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pochade.prompts.layout import lay_out
from pochade.prompts.tokenizer import Tokenizer, with_phrases
from pochade.prompts.tokenizer_files import load_tokenizer


@pytest.fixture
def tokenizer(make_folder: Callable[..., Path]) -> Tokenizer:
    return load_tokenizer(make_folder())


def test_a_phrase_and_its_surroundings(tokenizer: Tokenizer) -> None:
    known = with_phrases(tokenizer, {"bad-hands": (900, 901), "ink": (902,), " ": (903,)})
    fox = tokenizer.encode("fox")
    comma = tokenizer.encode(",")
    assert known.encode("fox bad-hands, ink fox") == [*fox, 900, 901, *comma, 902, *fox]
    assert known.encode("BAD-Hands") == [900, 901]
    assert known.encode("Ink2") == [902, *tokenizer.encode("2")]


@pytest.mark.parametrize("text", ["pink", "inks", "bad hands", "bad--hands", "bad-", "", "!!!"])
def test_what_is_no_phrase_stays_as_it_is(tokenizer: Tokenizer, text: str) -> None:
    known = with_phrases(tokenizer, {"bad-hands": (900, 901), "ink": (902,)})
    assert known.encode(text) == tokenizer.encode(text)


def test_the_longest_phrase_wins(tokenizer: Tokenizer) -> None:
    known = with_phrases(tokenizer, {"red": (900,), "red fox": (901,), "red fox snow": (902,)})
    assert known.encode("red fox snow red fox red") == [902, 901, 900]


def test_a_phrase_is_not_torn_apart_by_a_chunk(tokenizer: Tokenizer) -> None:
    known = with_phrases(tokenizer, {"ink": (900, 901, 902)})
    (the,) = tokenizer.encode("the")
    layout = lay_out("the " * 74 + "(ink:1.5) the", known)
    assert layout.chunks == ((the,) * 74, (900, 901, 902, the))
    assert layout.weights[1] == (1.5, 1.5, 1.5, 1.0)
    assert lay_out("the " * 72 + "ink the", known).chunks == ((the,) * 72 + (900, 901, 902), (the,))


@pytest.mark.parametrize(
    ("text", "around"),
    [
        ("<monster-toy>", ("", "")),
        ("a <monster-toy>, in snow", ("a ", ", in snow")),
        ("(<monster-toy>:1", ("(", ":1")),
        ("a<Monster-Toy>b", ("a", "b")),
        ("[<monster-toy>]!", ("[", "]!")),
        ("<<monster-toy>>", ("<", ">")),
        (",<monster-toy>,", (",", ",")),
    ],
)
def test_a_phrase_with_signs_at_its_ends(tokenizer: Tokenizer, text: str, around: tuple[str, str]) -> None:
    """A comma behind it makes one word of two signs, which is not the phrase's."""
    known = with_phrases(tokenizer, {"<monster-toy>": (900, 901)})
    before, after = (tokenizer.encode(part) for part in around)
    assert known.encode(text) == [*before, 900, 901, *after]


def test_signs_at_one_end_only(tokenizer: Tokenizer) -> None:
    known = with_phrases(tokenizer, {"ink*": (900,), "@fox": (901,), "*": (902,)})
    comma, red = tokenizer.encode(","), tokenizer.encode("red")
    assert known.encode("ink*, red") == [900, *comma, *red]
    assert known.encode("red,@fox,") == [*red, *comma, 901, *comma]
    assert known.encode("@foxes pink*") == [
        *tokenizer.encode("@foxes pink"), 902,
    ]  # fmt: skip
    assert known.encode("red,*,") == [*red, *comma, 902, *comma]
    assert known.encode("red, fox!?") == tokenizer.encode("red, fox!?")
