"""Extra networks in prompts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pochade.errors import InvalidRequest
from pochade.prompts.extra_networks import ExtraNetwork, extra_networks


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("<lora:name>", ExtraNetwork("lora", "name")),
        ("<lora:name:0.8>", ExtraNetwork("lora", "name", (0.8,))),
        ("<lora:name:0.8:0.6>", ExtraNetwork("lora", "name", (0.8, 0.6))),
        ("<lora:a name.v2-1:-1>", ExtraNetwork("lora", "a name.v2-1", (-1,))),
        ("<lyco:x:1:te=0.5>", ExtraNetwork("lyco", "x", (1,), (("te", "0.5"),))),
        ("<hypernet:folder/x:.5>", ExtraNetwork("hypernet", "folder/x", (0.5,))),
    ],
)
def test_a_network_is_taken_out(tag: str, expected: ExtraNetwork) -> None:
    assert extra_networks(f"a fox {tag}in snow") == ("a fox in snow", [expected])


def test_several_in_their_order() -> None:
    text, found = extra_networks("<lora:b:1>[x:<lora:a:2>:3]<lora:b:1>")
    assert text == "[x::3]"
    assert [network.name for network in found] == ["b", "a", "b"]


@pytest.mark.parametrize("text", ["<lora>", "<lora:>", "<3:4>", "<|endoftext|>", "<lora:a", "a < b:1 > c"])
def test_other_angles_are_text(text: str) -> None:
    assert extra_networks(text) == (text, [])


@pytest.mark.parametrize(
    ("tag", "message"),
    [("<lora: :1>", "has no name"), ("<lora:x:strong>", "'strong' in '<lora:x:strong>' is not a number")],
)
def test_what_cannot_be_meant(tag: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        extra_networks(tag)


@given(st.text(st.characters(exclude_characters="<")))
def test_a_prompt_without_them_is_left_as_it_is(prompt: str) -> None:
    assert extra_networks(prompt) == (prompt, [])
