"""Removal of comments in prompts, as in A1111's web UI."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pochade.prompts.comments import knows_comments, without_comments


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a fox", "a fox"),
        ("a fox # in snow", "a fox \n"),
        ("a fox # in snow\nat night", "a fox \nat night"),
        ("a fox,\n# in snow\nat night", "a fox,\nat night"),
        ("# all of it", "\n"),
        ("a #fox # twice\nb", "a \nb"),
        ("# one\n# two\nthree", "\nthree"),
    ],
)
def test_what_stays(prompt, expected):
    assert without_comments(prompt).split() == expected.split()
    assert "#" not in without_comments(prompt)


@given(st.text("a#\n ", max_size=30))
def test_nothing_but_comments_goes(prompt):
    kept = "".join(re.sub("#[^\n]*", "", prompt).split())
    assert "".join(without_comments(prompt).split()) == kept


@pytest.mark.parametrize(
    "version", ["v1.8.0", "v1.10.1", "1.9.4", "f2.0.1v1.10.1-previous-1", "f1.7.0-v1.8.0"]
)
def test_versions_that_know_them(version):
    assert knows_comments(version)


@pytest.mark.parametrize(
    "version", ["", "v1.7.0", "v1.0.0-pre", "pochade 0.1.0", "ComfyUI", "NovelAI", "v0.9"]
)
def test_others(version):
    assert not knows_comments(version)
