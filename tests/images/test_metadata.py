"""Parameters texts: compatibility with other tools' parsers, and round trip."""

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pochade.errors import InvalidRequest
from pochade.images.metadata import Parameters, Value, parameters_text, read_parameters

PLAIN: dict[str, Any] = {
    "prompt": "a red fox in the snow",
    "negative_prompt": "blurry, grey",
    "steps": 20,
    "sampler": "DPM++ 2M",
    "schedule": "Karras",
    "cfg_scale": 7.0,
    "seed": 1,
    "width": 512,
    "height": 768,
    "model_hash": "0123456789",
    "model": "starter",
    "extra": [("Clip skip", 2), ("RNG", "CPU")],
    "version": "pochade 0.1.0",
}

READERS_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\])+"|[^,]*)(?:,|$)')
"""How the tool that began with this text takes its last line apart."""

anything = st.text(st.characters(exclude_categories=["Cs"]))
keys = st.from_regex(r"[A-Za-z][A-Za-z0-9 /\-]{0,20}[A-Za-z0-9]", fullmatch=True)


def text_with(**changes: Any) -> str:
    return parameters_text(**(PLAIN | changes))


def stored(prompt: str) -> str:
    """A prompt as it is written: one kind of line break, two words with a small first letter."""
    lines = prompt.replace("\r\n", "\n").replace("\r", "\n")
    return lines.replace("Negative prompt:", "negative prompt:").replace("Steps:", "steps:")


def test_the_text_of_a_picture() -> None:
    assert text_with() == (
        "a red fox in the snow\n"
        "Negative prompt: blurry, grey\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x768, "
        "Model hash: 0123456789, Model: starter, Clip skip: 2, RNG: CPU, Version: pochade 0.1.0"
    )


def test_an_empty_negative_prompt_has_no_line_and_none_has_no_pair() -> None:
    text = text_with(negative_prompt="", schedule=None, model_hash=None, model=None, extra=[("VAE", None)])
    assert text == (
        "a red fox in the snow\n"
        "Steps: 20, Sampler: DPM++ 2M, CFG scale: 7, Seed: 1, Size: 512x768, Version: pochade 0.1.0"
    )
    assert text_with(prompt="").startswith("Negative prompt: blurry, grey\nSteps: 20, ")
    assert text_with(prompt="", negative_prompt="").startswith("Steps: 20, ")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (7.0, "7"),
        (7.5, "7.5"),
        (0.1 + 0.2, "0.3"),
        (2**64 - 1, "18446744073709551615"),
        ("plain words", "plain words"),
        ("a, b", '"a, b"'),
        ("lora: 0a1b", '"lora: 0a1b"'),
        ("one\ntwo", r'"one\ntwo"'),
        ('say "no"', r'"say \"no\""'),
        (" edge ", '" edge "'),
        ("雪, ❄", '"雪, ❄"'),
        ("", ""),
    ],
)
def test_how_a_value_is_written(value: Value, written: str) -> None:
    text = text_with(extra=[("Lora hashes", value)])
    assert f", Lora hashes: {written}, Version: " in text
    assert "\n" not in text.split("Steps: ")[1]


def test_a_model_name_keeps_no_comma_and_no_colon() -> None:
    assert ", Model: C_\\fox_ v1_beta.safetensors, " in text_with(model="C:\\fox, v1:beta.safetensors")


@pytest.mark.parametrize(
    "key", ["", "a", "with:colon", "with,comma", "two\nlines", " edge", "edge ", '"quoted"']
)
def test_a_name_that_no_reader_would_recognise_is_refused(key: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot name a value in a picture's text"):
        text_with(extra=[(key, "x")])


@pytest.mark.parametrize("where", ["prompt", "negative_prompt"])
def test_words_that_readers_look_for_stand_only_where_they_belong(where: str) -> None:
    text = text_with(**{where: "a fox\nNegative prompt: nothing\nSteps: 1, Negative prompt: x"})
    assert text.count("Negative prompt:") == 1
    assert text.count("Steps:") == 1
    assert "a fox\nnegative prompt: nothing\nsteps: 1, negative prompt: x" in text


def test_half_a_character_does_not_keep_a_picture_from_being_saved() -> None:
    text = text_with(prompt="a \ud83d fox", negative_prompt="\udc80", extra=[("VAE", "\udfff")])
    assert text.encode("utf-8").startswith(b"a ? fox\nNegative prompt: ?\nSteps: 20")


@given(
    prompt=anything,
    negative=anything,
    schedule=st.none() | st.sampled_from(["Karras", "SGM Uniform"]),
    cfg=st.floats(0, 100),
    seed=st.integers(0, 2**64),
    extra=st.dictionaries(keys.map(lambda key: f"Extra {key}"), anything, max_size=4),
)
@example("Negative prompt: x", "Negative prompt:\nSteps: 1, ab: 2, cd: 3", None, 1.0, 0, {"Extra x": '"a\\'})
@example("\ufeff\ufeff", "\ufeff", None, 1.0, 0, {"Extra x": "\ufeff"})
@example("\n", "\n", None, 1.0, 0, {"Extra x": '"', "Extra y": '","'})
@example("a: 1, bc: 2, cd: 3, de: 4", "", None, 1.0, 0, {})
def test_what_is_written_can_be_read(
    prompt: str, negative: str, schedule: str | None, cfg: float, seed: int, extra: dict[str, str]
) -> None:
    text = text_with(
        prompt=prompt,
        negative_prompt=negative,
        schedule=schedule,
        cfg_scale=cfg,
        seed=seed,
        extra=extra.items(),
    )
    read = read_parameters(text)
    assert (read.prompt, read.negative_prompt) == (stored(prompt).lstrip("\ufeff"), stored(negative))
    expected = {"Steps": "20", "Sampler": "DPM++ 2M"}
    expected |= {} if schedule is None else {"Schedule type": schedule}
    expected |= {"CFG scale": f"{cfg:.10g}", "Seed": str(seed), "Size": "512x768"}
    expected |= {"Model hash": "0123456789", "Model": "starter"}
    expected |= extra | {"Version": "pochade 0.1.0"}
    assert list(read.values.items()) == list(expected.items())


@given(value=anything)
def test_the_first_tool_reads_a_quoted_value_whole(value: str) -> None:
    last = text_with(extra=[("Lora hashes", value)]).rsplit("\n", 1)[1]
    pairs = dict(READERS_PAIR.findall(last))
    found = pairs["Lora hashes"]
    assert (json.loads(found) if found.startswith('"') else found) == value
    assert pairs["Size"] == "512x768"
    assert pairs["Version"] == "pochade 0.1.0"


@pytest.mark.parametrize("model", ["a, b", "a:b", "starter"])
def test_a_reader_that_splits_on_commas_finds_every_pair(model: str) -> None:
    last = text_with(model=model).rsplit("\n", 1)[1]
    pairs = [part.split(": ") for part in last.split(", ")]
    assert all(len(pair) == 2 for pair in pairs)
    assert pairs[0] == ["Steps", "20"]
    assert ["Sampler", "DPM++ 2M"] in pairs


def test_texts_of_other_tools() -> None:
    assert read_parameters("a fox, winter: 3") == Parameters("a fox, winter: 3", "", {})
    assert read_parameters("") == Parameters("", "", {})
    text = 'fox\n<lora:snow:0.8>\nNegative prompt:grey\nbad\nSteps: 9, Sampler: Euler a, Note: "a\\", Seed: 5'
    read = read_parameters(text)
    assert (read.prompt, read.negative_prompt) == ("fox\n<lora:snow:0.8>", "grey\nbad")
    assert read.values == {"Steps": "9", "Sampler": "Euler a", "Note": '"a\\"', "Seed": "5"}
