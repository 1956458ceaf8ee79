"""Patterns of layer names, compared with Python's `re`, which PEFT uses."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pochade.adapters.patterns import UnreadablePattern, compiled, fits
from tests.growth import grows_linearly

NAMES = (
    "conv_in",
    "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q",
    "down_blocks.12.attentions.1.transformer_blocks.0.attn2.to_k",
    "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0",
    "up_blocks.1.resnets.2.conv1",
    "text_model.encoder.layers.11.self_attn.q_proj",
    "",
    ".",
    "a.",
)


def theirs(pattern: str, name: str) -> bool:
    return re.match(rf"(.*\.)?({pattern})$", name) is not None


@pytest.mark.parametrize(
    "pattern",
    [
        r".*to_q",
        r".*\.attn1\.to_q",
        r"attn[12]\.to_(q|k|v)",
        r"^down_blocks\.\d+\..*",
        r"^attn1.to_q$",
        r"down_blocks\.[0-9]{2}.*",
        r"layers\.(0|11)\.self_attn\.[^.]+",
        r"(?:up|down)_blocks.*conv\d?",
        r"blocks\.0\.attn1\.to_out\.0",
        r"[a-z_]+\.0\.attn\d\.to_[^qk].*",
        r"(a|b)*.*",
        r"x*",
        r"\w+_in",
        r"\S*1{1}\S*",
        r"con{1,3}v_?in",
        r"co(n|v)+_i{1,}n",
        r".*?to_k",
        r"[.]*",
        r"[]x.]+",
        r"[^]x]+n",
        r"a\.",
        r"",
    ],
)
def test_as_python_reads_them(pattern: str) -> None:
    assert [fits(pattern, name) for name in NAMES] == [theirs(pattern, name) for name in NAMES]


ATOMS = st.sampled_from(["a", "b", ".", r"\.", "[ab]", "[^a]", r"\w"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{2,}"])).map(
            lambda two: f"({two[0]}){two[1]}"
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=500, deadline=None)
@given(PATTERNS, st.text("ab.", max_size=7))
def test_any_pattern_and_name(pattern: str, name: str) -> None:
    assert fits(pattern, name) == theirs(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("(a", "parenthesis"),
        ("a)", "parenthesis"),
        ("[a", "bracket"),
        ("(?=a)", "looks ahead or behind"),
        ("(?P<x>a)", "names a group"),
        (r"(a)\1", "which is not read"),
        (r"\bq", "which is not read"),
        ("a\\", "which is not read"),
        ("*a", "with nothing to repeat"),
        ("a|+", "with nothing to repeat"),
        ("a^b", "where it is not supported"),
        ("a$b", "where it is not supported"),
        ("a**", "one after the other"),
        ("a{60}", "at most 50"),
        ("a{3,2}", "at most 50, and once"),
        ("((a{50}){50}){50}", "more than 500 places"),
        ("(((((){50}){50}){50}){50}){50}", "more than 500 places"),
        ("(" * 21 + "a" + ")" * 21, "more than 20 deep"),
        ("a" * 501 + "*", "502 characters"),
    ],
)
def test_what_is_not_read(pattern: str, fault: str) -> None:
    with pytest.raises(UnreadablePattern, match=fault):
        compiled(pattern)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(.*)*x", "(a*)*(a*)*(a*)*c"])
def test_no_pattern_takes_for_ever(pattern: str) -> None:
    """Python's own machine would take longer than there is time."""
    compiled(pattern)  # the automaton is made once

    def work(letters: int) -> None:
        assert not fits(pattern, "a" * letters + "!")

    grows_linearly(work, 20_000)
