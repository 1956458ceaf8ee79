"""Emphasis: a table derived from the rules of A1111's web UI, and properties for any text."""

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pochade.prompts.attention import MAX_WEIGHT, sections
from tests.growth import grows_linearly

UP, DOWN = 1.1, 1 / 1.1

TABLE = {
    "": [],
    "a red fox": [("a red fox", 1)],
    "a, b: c; d": [("a, b: c; d", 1)],
    # one bracket, several, and weights
    "an (important) word": [("an ", 1), ("important", UP), (" word", 1)],
    "((a))": [("a", UP**2)],
    "(((a)))b": [("a", UP**3), ("b", 1)],
    "[a]": [("a", DOWN)],
    "[[a]] b": [("a", DOWN**2), (" b", 1)],
    "([a])": [("a", 1)],
    "[(a)] b": [("a b", 1)],
    "(a:1.3)": [("a", 1.3)],
    "(a: 1.3 )b": [("a", 1.3), ("b", 1)],
    "(a:0)": [("a", 0)],
    "(a:.5)": [("a", 0.5)],
    "(a:2)": [("a", 2)],
    "(a:-1)": [("a", -1)],
    "(a:+1.5)": [("a", 1.5)],
    "((a:1.5))": [("a", 1.5 * UP)],
    "((a:1.5) b:2)": [("a", 3), (" b", 2)],
    "[(a:1.5)]": [("a", 1.5 * DOWN)],
    "(a [b] c:2)": [("a ", 2), ("b", 2 * DOWN), (" c", 2)],
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).": [
        ("a ", 1),
        ("house", 1.3 * UP**2),
        (" ", UP),
        ("on", 1),
        (" a ", UP),
        ("hill", 0.5 * UP),
        (", sun, ", UP),
        ("sky", UP**4),
        (".", UP),
    ],
    # neighbours of one weight are one span
    "(a)(b)": [("ab", UP)],
    "(a) (b)": [("a", UP), (" ", 1), ("b", UP)],
    "(a:1.1)(b)": [("ab", UP)],
    # weights that are none, and weights without a bracket
    "(a:b)": [("a:b", UP)],
    "(a:1.2.3)": [("a:1.2.3", UP)],
    "(a:1,2)": [("a:1,2", UP)],
    "a:1.2)": [("a:1.2)", 1)],
    "[a:1.2)": [("a:1.2)", DOWN)],
    "[a:1.2]": [("a:1.2", DOWN)],
    # brackets without a counterpart, and ones that overlap
    "(a": [("a", UP)],
    "a (b [c": [("a ", 1), ("b ", UP), ("c", 1)],
    "a)": [("a)", 1)],
    "a] b": [("a] b", 1)],
    "a)(b": [("a)", 1), ("b", UP)],
    "((a) b": [("a", UP**2), (" b", UP)],
    "(a [b) c] d": [("a ", UP), ("b", 1), (" c", DOWN), (" d", 1)],
    "()": [],
    "a()b": [("ab", 1)],
    # escapes
    r"\(a\)": [("(a)", 1)],
    r"\[a\] \\": [("[a] \\", 1)],
    r"(a\))": [("a)", UP)],
    r"(a \(b\):1.2)": [("a (b)", 1.2)],
    r"(a\:1.2)": [("a:1.2", UP)],
    r"C:\foo": [("C:foo", 1)],
    "a\\": [("a", 1)],
    r"\\(a)": [("\\", 1), ("a", UP)],
    # what other parts of the grammar are made of
    "{a|b} __c__ <d:1>": [("{a|b} __c__ <d:1>", 1)],
    ":)": [(":)", 1)],
    "(:": [(":", UP)],
}


@pytest.mark.parametrize("prompt", TABLE)
def test_table(prompt: str) -> None:
    (spans,) = sections(prompt)
    assert [text for text, _ in spans] == [text for text, _ in TABLE[prompt]]
    assert [weight for _, weight in spans] == pytest.approx([weight for _, weight in TABLE[prompt]])


BREAKS = {
    "a BREAK b": [[("a", 1)], [("b", 1)]],
    "a\n BREAK\tb BREAK c": [[("a", 1)], [("b", 1)], [("c", 1)]],
    "BREAK a": [[], [("a", 1)]],
    "a BREAK": [[("a", 1)], []],
    "BREAK BREAK": [[], [], []],
    "(a BREAK b) c": [[("a", UP)], [("b", UP), (" c", 1)]],
    "(a) BREAK (b:2)": [[("a", UP)], [("b", 2)]],
    "a,BREAK,b": [[("a,", 1)], [(",b", 1)]],
    "a break BREAKS aBREAK": [[("a break BREAKS aBREAK", 1)]],
}


@pytest.mark.parametrize("prompt", BREAKS)
def test_break(prompt: str) -> None:
    assert [[tuple(span) for span in each] for each in sections(prompt)] == [
        [(text, pytest.approx(weight)) for text, weight in each] for each in BREAKS[prompt]
    ]


def test_brackets_that_cancel_out_give_exactly_one() -> None:
    """A weight of one costs nothing, so it must not be missed by rounding."""
    for depth in (1, 3, 7, 50):
        assert sections("(" * depth + "[" * depth + "a" + "]" * depth + ")" * depth) == [[("a", 1.0)]]


@given(st.text(st.characters(exclude_characters="()[]\\")).filter(lambda text: "BREAK" not in text))
def test_a_prompt_without_grammar_is_one_span(prompt: str) -> None:
    assert sections(prompt) == ([[(prompt, 1.0)]] if prompt else [[]])


@given(st.lists(st.sampled_from([*"()[]:\\ .1a-", "BREAK", ":1.5)"])).map("".join))
def test_any_text_can_be_read(prompt: str) -> None:
    """Nothing is invented, nothing but signs is lost, and weights are numbers that can be used."""
    spans = [span for section in sections(prompt) for span in section]
    assert all(text and -MAX_WEIGHT <= weight <= MAX_WEIGHT for text, weight in spans)
    written = "".join(text for text, _ in spans)
    assert written.count("a") == prompt.count("a")
    rest = iter(prompt)
    assert all(letter in rest for letter in written)  # in the order in which it was typed


LONG: Mapping[str, Callable[[int], str]] = {
    "open": lambda n: "(" * n,
    "closed": lambda n: "(" * (n // 2) + ")" * (n // 2),
    "crossed": lambda n: "([" * (n // 4) + ")]" * (n // 4),
    "weights": lambda n: "(a:9" * (n // 4),
    "digits": lambda n: ":" + "1" * n,
    "spaces": lambda n: ":" + " " * n,
    "almost BREAK": lambda n: " " * n + "B",
    "escapes": lambda n: "\\" * n,
}


@pytest.mark.parametrize("prompt", LONG.values(), ids=LONG)
def test_a_long_prompt_takes_no_more_than_its_length(prompt: Callable[[int], str]) -> None:
    """200,000 characters are read; anything quadratic would take minutes."""

    def work(size: int) -> None:
        for section in sections(prompt(size)):
            assert all(abs(weight) <= MAX_WEIGHT for _, weight in section)

    grows_linearly(work, 100_000)


def test_1_000_brackets_reach_the_largest_weight() -> None:
    assert sections("(" * 1000 + "a") == [[("a", MAX_WEIGHT)]]
    ((span,),) = sections("[" * 1000 + "a")
    assert 0 < span.weight < 1e-6
