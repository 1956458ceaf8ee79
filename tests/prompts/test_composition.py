"""Prompts joined by AND."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pochade.errors import InvalidRequest
from pochade.prompts.composition import composition


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat", [("a cat", 1)]),
        ("a cat: 0.5", [("a cat: 0.5", 1)]),  # one prompt has no weight beside others
        ("a cat AND a dog", [("a cat ", 1), (" a dog", 1)]),
        ("a cat :0.3 AND a dog:2", [("a cat ", 0.3), (" a dog", 2)]),
        ("a AND b:-0.5 AND c", [("a ", 1), (" b", -0.5), (" c", 1)]),
        ("a (b:1.2) AND c", [("a (b:1.2) ", 1), (" c", 1)]),
        ("AND", [("", 1), ("", 1)]),
        ("a\nAND\nb : .5 ", [("a\n", 1), ("\nb ", 0.5)]),
        ("cats and dogs, SAND, ANDY", [("cats and dogs, SAND, ANDY", 1)]),
        ("a AND b:1e9", [("a ", 1), (" b:1e9", 1)]),
        ("a AND b:123456", [("a ", 1), (" b", 100)]),
    ],
)
def test_table(prompt: str, expected: list[tuple[str, float]]) -> None:
    assert [part[:2] for part in composition(prompt)] == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("MASK(0 0.5, 0 1) a AND b", [(" a ", 1, (0, 0.5, 0, 1)), (" b", 1, None)]),
        (
            "a MASK(.5 1) AND b MASK( 0 1 , 0.25 ) :0.5",
            [("a  ", 1, (0.5, 1, 0, 1)), (" b  ", 0.5, (0, 1, 0.25, 1))],
        ),
        ("a MASK() AND b MASK(0.1)", [("a  ", 1, (0, 1, 0, 1)), (" b ", 1, (0.1, 1, 0, 1))]),
        ("MASK(,0.5) a AND UNMASK(0 1) b", [(" a ", 1, (0, 1, 0.5, 1)), (" UNMASK(0 1) b", 1, None)]),
        ("MASK(red) a AND mask(0 1) b", [("MASK(red) a ", 1, None), (" mask(0 1) b", 1, None)]),
        ("MASK(0 0.5) a", [("MASK(0 0.5) a", 1, None)]),
    ],
)
def test_regions(prompt: str, expected: list[tuple[str, float, object]]) -> None:
    assert composition(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("MASK(0.5 0.5) a AND b", r"MASK\(0\.5 0\.5\) is empty"),
        ("MASK(0 1.5) a AND b", "is empty"),
        ("MASK(0 1, 0.8 0.2) a AND b", "is empty"),
        ("MASK(0 0.5) MASK(0.5 1) a AND b", "has 2 regions"),
    ],
)
def test_regions_that_cannot_be(prompt: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        composition(prompt)


@given(st.text().filter(lambda text: "AND" not in text))
def test_one_prompt_is_left_as_it_is(prompt: str) -> None:
    assert composition(prompt) == [(prompt, 1.0, None)]


def test_too_many_are_refused() -> None:
    assert len(composition(" AND ".join(["a"] * 16))) == 16
    with pytest.raises(InvalidRequest, match="joins 17 prompts by AND; at most 16"):
        composition(" AND ".join(["a"] * 17))
