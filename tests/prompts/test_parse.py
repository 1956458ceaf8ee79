"""Parsed prompts: parts, extra networks, and the text at each step."""

import pytest

from pochade.errors import InvalidRequest
from pochade.prompts.composition import PromptPart, Region
from pochade.prompts.extra_networks import ExtraNetwork
from pochade.prompts.parse import as_parsed, parse_prompt


def test_a_plain_prompt_is_one_part_that_never_changes() -> None:
    parsed = parse_prompt("a (red:1.2) apple")
    assert parsed.text == parsed.plain == "a (red:1.2) apple"
    assert (parsed.extra_networks, parsed.schedules) == ((), (None,))
    assert parsed.at_steps(3) == [(PromptPart("a (red:1.2) apple", 1.0),)] * 3


def test_everything_is_read_in_one_go() -> None:
    parsed = parse_prompt("[a:b:2] c<lora:ink:0.5> AND d MASK(0 0.5) :2")
    assert parsed.plain == "[a:b:2] c AND d MASK(0 0.5) :2"
    assert parsed.extra_networks == (ExtraNetwork("lora", "ink", (0.5,)),)
    second = PromptPart(" d  ", 2.0, Region(0.0, 0.5, 0.0, 1.0))
    assert parsed.parts == (PromptPart("[a:b:2] c ", 1.0), second)
    before, after = PromptPart("a c ", 1.0), PromptPart("b c ", 1.0)
    assert parsed.at_steps(4) == [(before, second)] * 2 + [(after, second)] * 2


def test_one_parsed_prompt_serves_any_number_of_steps_and_both_passes() -> None:
    parsed = parse_prompt("[a:b:0.5] [c:d:6]")
    assert [part.prompt for (part,) in parsed.at_steps(4)] == ["a c", "a c", "b c", "b c"]
    assert [part.prompt for (part,) in parsed.at_steps(2)] == ["a c", "b c"]
    assert [part.prompt for (part,) in parsed.at_steps(4, 4)] == ["b c", "b c", "b d", "b d"]


def test_and_is_a_word_in_a_negative_prompt() -> None:
    many = " AND ".join("abcdefghijklmnopqrstuvwxyz")
    assert parse_prompt(many, negative=True).parts == (PromptPart(many, 1.0),)
    with pytest.raises(InvalidRequest, match="26 prompts"):
        parse_prompt(many)


@pytest.mark.parametrize("text", ["HAND", "STAND <b>", "a [word] ]", "a < b", "MASK(0 1) only"])
def test_what_only_looks_like_grammar_is_text(text: str) -> None:
    parsed = parse_prompt(text)
    assert parsed.extra_networks == () and parsed.at_steps(2) == [(PromptPart(text, 1.0),)] * 2


def test_what_has_been_parsed_is_not_parsed_again() -> None:
    parsed = parse_prompt("a fox")
    assert as_parsed(parsed) is parsed
    assert as_parsed("a fox").parts == parsed.parts


def test_mistakes_are_said() -> None:
    for text in ("a <lora: >", "a <lora:ink:much>", "a MASK(1 0) AND b"):
        with pytest.raises(InvalidRequest):
            parse_prompt(text)
