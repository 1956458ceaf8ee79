"""Interpretation of values in parameters texts of different programs."""

import pytest

from pochade.errors import InvalidRequest
from pochade.generation.infotext_request import has_source, request_from
from pochade.generation.infotext_unsupported import not_followed
from pochade.images.metadata import read_parameters
from pochade.request_options import Hires, Variation

SETTINGS = "Steps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 512x640"


@pytest.mark.parametrize(
    ("settings", "field", "expected"),
    [
        ("Steps: 20.0, Sampler: Euler, Seed: 1", "steps", 20),
        ("Steps: 20, Sampler: Euler, Seed: 1.0", "seed", 1),
        ("Steps: 20, Sampler: Euler, Seed: -1", "seed", None),
        ("Steps: 20, Sampler: Euler, Seed: 18446744073709550000", "seed", 18446744073709550000),
        ("Steps: 20, Sampler: Euler, Clip skip: 0", "clip_skip", 1),
        ("Steps: 20, Sampler: Euler, Clip skip: 2.0", "clip_skip", 2),
        ("Steps: 20, Sampler: Euler, CFG scale: 7,5", "cfg_scale", 7.5),
        ("Steps: 20, CFG scale: 7,5, Sampler: Euler, Seed: 1", "cfg_scale", 7.5),
        ("Steps: 20, Sampler: Euler, CFG scale: 7", "cfg_scale", 7.0),
        ("Steps: 20, Sampler: Euler, Size: 512 x 640", "width", 512),
        ("Steps: 20, Sampler: Euler, Size: 512X640", "height", 640),
        ("Steps: 20, Sampler: Euler, Size: 512×640", "height", 640),
        ("Steps: 20, Sampler: Euler, Size: 512.0x640.0", "height", 640),
        ("Steps: 20, Sampler: Euler, Seed resize from: -1x-1", "variation", None),
        ("Steps: 20, Sampler: Euler, Seed resize from: 0x0", "variation", None),
    ],
)
def test_a_value(settings, field, expected):
    assert getattr(request_from(f"a fox\n{settings}"), field) == expected


@pytest.mark.parametrize(
    ("told", "size"),
    [("1024x0", (1024, 1280)), ("0x960", (768, 960)), ("1024 x 0", (1024, 1280)), ("1000x300", (1000, 300))],
)
def test_a_side_of_the_second_size_that_is_left_open_follows_from_the_other(told, size):
    """As the web UI writes `hr_resize_x` and `hr_resize_y`."""
    hires = request_from(f"a fox\n{SETTINGS}, Denoising strength: 0.5, Hires resize: {told}").hires
    assert hires is not None and hires.size == size


@pytest.mark.parametrize("told", ["0x0", "-1x-1", "-1x512", "0x512"])
def test_a_size_of_the_seed_that_is_none(told):
    """As the web UI's API wrote its defaults."""
    text = f"a fox\n{SETTINGS}, Seed resize from: {told}"
    assert request_from(text).variation is None
    assert not_followed(read_parameters(text).values) == []
    both = f"{text}, Variation seed: 5, Variation seed strength: 0.5"
    assert request_from(both).variation == Variation(seed=5, strength=0.5)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("Hires upscaler: ink, Hires prompt: an owl", ["Hires upscaler", "Hires prompt"]),
        ("Hires steps: 0", []),
        ("Hires upscale: 2, Hires prompt: an owl", []),
        ("Refiner switch at: 0.8", ["Refiner switch at"]),
        ("Refiner: xl, Refiner switch at: 0.8", []),
        ("Blend prompt: an owl", ["Blend prompt"]),
        ("Blend prompt: an owl, Blend share: 0.5", []),
    ],
)
def test_a_setting_of_what_the_text_does_not_have_is_told(settings, told):
    assert not_followed(read_parameters(f"a fox\n{SETTINGS}, {settings}").values) == told


def test_the_comma_of_a_number_parts_nothing_else():
    values = read_parameters(
        "a fox\nSteps: 20, CFG scale: 7,5, Sampler: Euler, Seed: 1, Size: 512x512"
    ).values
    assert values == {
        "Steps": "20", "CFG scale": "7,5", "Sampler": "Euler", "Seed": "1", "Size": "512x512"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ("Steps: 20.5, Sampler: Euler, Seed: 1", r"'Steps: 20\.5', which is not a number"),
        ("Steps: 20,5, Sampler: Euler, Seed: 1", r"'Steps: 20,5', which is not a number"),
        ("Steps: 20, Sampler: Euler, Seed: 1.5", r"'Seed: 1\.5'"),
        ("Steps: 20, Sampler: Euler, Size: large", r"'Size: large'; a size is WIDTHxHEIGHT"),
        ("Steps: 20, Sampler: Euler, Seed: -7", r"seed"),
        ("Steps: 20, Sampler: Euler, Clip skip: 99", r"clip_skip"),
        ("Steps: 20, Variation seed: -1, Variation seed strength: 0.1", r"'Variation seed: -1' \(random\)"),
    ],
)
def test_a_value_that_means_nothing_is_refused_by_name(settings, fault):
    with pytest.raises(InvalidRequest, match=fault):
        request_from(f"a fox\n{settings}")


@pytest.mark.parametrize(
    ("first", "size", "expected"),
    [
        ("512x640", "1024x1280", (512, 640)),
        ("512 x 640", "1024 x 1280", (512, 640)),
        ("0x0", "1024x1024", (512, 512)),
        ("0x0", "1024x1536", (448, 640)),  # ceil(512 / sqrt(1024 * 1536) * side / 64) * 64
    ],
)
def test_the_first_pass_of_two(first, size, expected):
    text = (
        f"a fox\nSteps: 20, Sampler: Euler, Size: {size}, Denoising strength: 0.6, First pass size: {first}"
    )
    request = request_from(text)
    large = tuple(int(side) for side in size.split("x"))
    assert (request.width, request.height) == expected
    assert request.hires == Hires(scale=2.0, size=large, upscaler="Latent", denoising_strength=0.6)
    assert not has_source(read_parameters(text))
    assert not_followed(read_parameters(text).values) == []


@pytest.mark.parametrize(
    "behind",
    ["\n", "\n\n  \n", "\r\n", "\0", "\n\0", "\nTemplate: a {red|blue} fox",
     "\nTemplate: a\nb, c: d, e: f, g: h\n",
     "\n\nNegative Template: __bad__\nTemplate: x\n"],
)  # fmt: skip
def test_what_stands_behind_the_settings(behind):
    text = f"a fox,\nin snow\nNegative prompt: grey\n{SETTINGS}{behind}"
    parameters = read_parameters(text)
    assert (parameters.prompt, parameters.negative_prompt) == ("a fox,\nin snow", "grey")
    assert parameters.values["Size"] == "512x640" and parameters.values["Steps"] == "20"
    assert request_from(text).steps == 20


def test_a_byte_order_mark_is_not_of_the_prompt():
    assert read_parameters(f"\ufeffa fox\n{SETTINGS}").prompt == "a fox"


@pytest.mark.parametrize(
    ("resize", "expected"),
    [("1024x0", (1024, 1280)), ("0x960", (768, 960)), ("1024x1024", (1024, 1024)), ("0 x 0", None)],
)
def test_a_side_of_the_second_pass_that_is_left_to_the_other(resize, expected):
    hires = request_from(f"a fox\n{SETTINGS}, Hires upscale: 2, Hires resize: {resize}").hires
    assert hires is not None and hires.size == expected


@pytest.mark.parametrize(
    "value",
    [
        '[{"type": "lora", "modelName": "A: B, Steps: 30, Seed: 5"}, {"weight": 0.8}]',
        '{"name": "x, Steps: 3, Size: 1x1"}',
    ],
)
def test_a_table_is_one_value(value):
    values = read_parameters(f"a fox\n{SETTINGS}, Civitai resources: {value}, Version: x").values
    assert (values["Steps"], values["Seed"], values["Size"], values["Version"]) == ("20", "1", "512x640", "x")
    assert values["Civitai resources"] == value
    damaged = read_parameters(f"a fox\n{SETTINGS}, Notes: {value[:-1]}").values
    assert damaged["Sampler"] == "Euler"


def test_templates_behind_the_settings_are_told():
    text = f"a fox\n{SETTINGS}\nTemplate: a {{red|blue}}\nfox\nNegative Template: __bad__"
    values = read_parameters(text).values
    assert (values["Template"], values["Negative Template"]) == ("a {red|blue}\nfox", "__bad__")


def test_settings_within_a_prompt_are_none():
    text = "Steps: 1, Sampler: x, Size: y\nand then a fox"
    assert read_parameters(text).prompt == text


@pytest.mark.parametrize(
    ("version", "prompt"),
    [
        ("v1.10.1", "a fox"),
        ("f2.0.1v1.10.1", "a fox"),
        ("v1.6.0", "a fox # grey"),
        ("pochade 0.1.0", "a fox # grey"),
        ("ComfyUI", "a fox # grey"),
    ],
)
def test_comments_where_the_program_knows_them(version, prompt):
    text = f"a fox # grey\nNegative prompt: snow # rain\n{SETTINGS}, Version: {version}"
    request = request_from(text)
    assert request.prompt.strip() == prompt
    assert request.negative_prompt.strip() == ("snow" if prompt == "a fox" else "snow # rain")
    hires = request_from(
        f"a\n{SETTINGS}, Hires upscale: 2, Hires prompt: an owl # grey, Version: {version}"
    ).hires
    assert hires is not None and hires.prompt.strip() == ("an owl" if prompt == "a fox" else "an owl # grey")
