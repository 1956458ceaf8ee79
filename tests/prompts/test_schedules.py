"""Prompt schedules: a table of expected results, and properties for any text."""

from collections.abc import Callable, Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pochade.errors import InvalidRequest
from pochade.prompts.schedules import schedule
from tests.growth import grows_linearly

TABLE = {  # in 10 steps
    "": [(10, "")],
    "a red fox": [(10, "a red fox")],
    # three forms
    "[a:b:3]": [(3, "a"), (10, "b")],
    "[b:3]": [(3, ""), (10, "b")],
    "[a::3]": [(3, "a"), (10, "")],
    "a [b:3]": [(3, "a "), (10, "a b")],
    "x [a : b : 1] y": [(1, "x a  y"), (10, "x  b  y")],
    "[a:b: 3 ]": [(3, "a"), (10, "b")],
    "[:a:3]": [(3, ""), (10, "a")],
    "[:3]": [(10, "")],
    # steps and fractions
    "[a:b:.5]": [(5, "a"), (10, "b")],
    "[a:b:0.25]": [(2, "a"), (10, "b")],
    "[a:b:0]": [(10, "b")],
    "[a:b:0.0]": [(10, "b")],
    "[a:b:0.05]": [(10, "b")],
    "[a:b:1]": [(1, "a"), (10, "b")],
    "[a:b:1.0]": [(10, "a")],
    "[a:b:9]": [(9, "a"), (10, "b")],
    "[a:b:10]": [(10, "a")],
    "[a:b:5000]": [(10, "a")],
    "[a:b:-3]": [(10, "b")],
    "[a:b:3.]": [(10, "a")],
    # nested, several
    "a[b:[c:d:2]:1]e": [(1, "abe"), (2, "ace"), (10, "ade")],
    "[[a:b:2]:c:5]": [(2, "a"), (5, "b"), (10, "c")],
    "[a:b:3] [c:d:6]": [(3, "a c"), (6, "b c"), (10, "b d")],
    "[a:[b:2]:5]": [(5, "a"), (10, "b")],
    "[a:a:3]": [(10, "a")],
    # emphasis stays, and hides what is inside round brackets
    "[(a:2):3]": [(3, ""), (10, "(a:2)")],
    "[(a:1.2):(b:0.8):3]": [(3, "(a:1.2)"), (10, "(b:0.8)")],
    "a [[[b]]:2]": [(2, "a "), (10, "a [[b]]")],
    "([a:b:3]:1.2)": [(3, "(a:1.2)"), (10, "(b:1.2)")],
    "[(x [a:b:2]:1.2):4]": [(4, ""), (10, "(x b:1.2)")],
    "[(x [a:b:6]:1.2):4]": [(4, ""), (6, "(x a:1.2)"), (10, "(x b:1.2)")],
    # text that is no schedule
    "[word]": [(10, "[word]")],
    "[a:b]": [(10, "[a:b]")],
    "[a:b:c]": [(10, "[a:b:c]")],
    "[a:b:c:3]": [(10, "[a:b:c:3]")],
    "[a:b:3x]": [(10, "[a:b:3x]")],
    "(a:b:3)": [(10, "(a:b:3)")],
    "a:b:3": [(10, "a:b:3")],
    "a | b": [(10, "a | b")],
    "[]": [(10, "[]")],
    # brackets without a counterpart
    "a [unbalanced": [(10, "a [unbalanced")],
    "a] [b:3]": [(3, "a] "), (10, "a] b")],
    "((a][:b:c [d:3]": [(3, "((a][:b:c "), (10, "((a][:b:c d")],
    "[a (b:c:3]": [(10, "[a (b:c:3]")],
    "[a) [b:3]": [(3, "[a) "), (10, "[a) b")],
    "(x [a:b:3]": [(3, "(x a"), (10, "(x b")],
    # escapes are kept for the next reader
    r"\[a:b:3\]": [(10, r"\[a:b:3\]")],
    r"[a\:x:b:3]": [(3, r"a\:x"), (10, "b")],
    r"[a\]:b:3]": [(3, r"a\]"), (10, "b")],
    "[a:b:3]\\": [(3, "a\\"), (10, "b\\")],
    # alternation
    "[a|b]": [(step, "ab"[(step - 1) % 2]) for step in range(1, 11)],
    "[a|b|c]d": [(step, "abc"[(step - 1) % 3] + "d") for step in range(1, 11)],
    "[fe|]male": [(step, "male" if step % 2 == 0 else "female") for step in range(1, 11)],
    "[fe|||]male": [(1, "female"), (4, "male"), (5, "female"), (8, "male"), (9, "female"), (10, "male")],
    "[a|a]": [(10, "a")],
    "[a|(b:1.1)]": [(step, "(b:1.1)" if step % 2 == 0 else "a") for step in range(1, 11)],
    "[a|[b:c:4]]": [
        (step, "a" if step % 2 else "b" if step <= 4 else "c") for step in range(1, 11)
    ],
    "[[a|b]:c:3]": [(1, "a"), (2, "b"), (3, "a"), (10, "c")],
    "[a:1|b]": [(10, "[a:1|b]")],
    "a [{b|d{:.5] c": [(5, "a  c"), (10, "a {b|d{ c")],
    r"[a\|b]": [(10, r"[a\|b]")],
}  # fmt: skip


@pytest.mark.parametrize("prompt", TABLE)
def test_table(prompt: str) -> None:
    assert schedule(prompt, 10) == TABLE[prompt]


def test_fractions_are_of_the_steps_and_whole_numbers_are_not() -> None:
    assert schedule("[a:b:0.5] [c:d:3]", 40) == [(3, "a c"), (20, "a d"), (40, "b d")]
    assert schedule("[a:b:0.5]", 1) == [(1, "b")]
    assert schedule("[a:b:1]", 1) == [(1, "a")]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("[a:b:.5]", [(8, "b")]),  # reached in the first pass
        ("[a:b:1.5]", [(4, "a"), (8, "b")]),
        ("[a:b:5]", [(8, "b")]),
        ("[a:b:12]", [(2, "a"), (8, "b")]),
        ("[a:b:18]", [(8, "a")]),
        ("[a|b]", [(step, "ab"[(step - 1) % 2]) for step in range(1, 9)]),
    ],
)
def test_the_second_pass_of_a_hires_fix(prompt: str, expected: list[tuple[int, str]]) -> None:
    """8 steps after 10: whole numbers count on from 10, fractions from 1."""
    assert schedule(prompt, 8, first_pass_steps=10) == expected


@given(st.text(st.characters(exclude_characters="[")), st.integers(1, 50))
def test_a_prompt_without_square_brackets_does_not_change(prompt: str, steps: int) -> None:
    assert schedule(prompt, steps) == [(steps, prompt)]


@given(st.lists(st.sampled_from([*"[]()|:\\ a.5", ":3]", "[b:"])).map("".join), st.integers(1, 30))
def test_any_text_can_be_read(prompt: str, steps: int) -> None:
    stretches = schedule(prompt, steps)
    stops = [stop for stop, _ in stretches]
    assert stops == sorted(set(stops)) and stops[-1] == steps
    texts = [text for _, text in stretches]
    assert all(one != other for one, other in pairwise(texts))
    for text in texts:
        rest = iter(prompt)
        assert all(letter in rest for letter in text)


@given(st.lists(st.sampled_from(["a", "b", " ", "(c:1.2)", "[d]"]), max_size=20))
def test_text_without_a_schedule_is_kept_letter_by_letter(parts: list[str]) -> None:
    prompt = "".join(parts)
    assert schedule(prompt, 20) == [(20, prompt)]


LONG: Mapping[str, Callable[[int], str]] = {
    "open": lambda n: "[" * n,
    "half closed": lambda n: "[a:" * (n // 5) + ":3]" * (n // 10),
    "crossed": lambda n: "([" * (n // 4) + ")]" * (n // 4),
    "nested": lambda n: "([" * (n // 4) + "])" * (n // 4),
    "colons": lambda n: "[" + ":" * n,
    "escapes": lambda n: "\\" * n + "[",
}


@pytest.mark.parametrize("prompt", LONG.values(), ids=LONG)
def test_a_long_prompt_takes_no_more_than_its_length(prompt: Callable[[int], str]) -> None:
    """200,000 characters are read, and no depth is too deep; anything quadratic would take minutes."""

    def work(size: int) -> None:
        assert schedule(prompt(size), 1000)[-1][0] == 1000

    grows_linearly(work, 99_000)


def test_a_long_prompt_that_changes_all_the_time_is_refused() -> None:
    assert len(schedule("[a|b]" * 100, 1000)) == 1000
    with pytest.raises(InvalidRequest, match="200,000 characters and changes in 1,000 steps"):
        schedule("[a|b]" * 40_000, 1000)
