"""Faster drawings: what is left out, what is not, and that pictures of a batch do not mix."""

from types import MappingProxyType

import numpy as np
import pytest

from pochade import speed
from pochade.speed import Economy
from tests.reference import psnr

OPTIONS = {"width": 40, "height": 24, "cfg_scale": 5.0, "steps": 8, "seed": 3}
PROMPT = "a red fox in the snow"


@pytest.fixture
def economies(monkeypatch):
    """`economies(name=Economy(...))`: further settings that a request may name."""

    def add(**named):
        monkeypatch.setattr(speed, "SPEEDS", MappingProxyType({**speed.SPEEDS, **named}))

    return add


def test_what_leaves_nothing_out_draws_the_exact_picture(model, economies):
    """One conditioning at a time, kept features and all."""
    economies(careful=Economy(guided=(0, 1)), split=Economy(whole=((1.0, 0.0),)))
    for family in ("SD 1.5", "SDXL"):
        pipeline = model(family).load()
        exact = pipeline.txt2img(PROMPT, **OPTIONS).images[0]
        for name in ("careful", "split"):
            assert psnr(pipeline.txt2img(PROMPT, speed=name, **OPTIONS).images[0], exact) > 70, (family, name)


def test_without_guidance_the_prompt_alone_draws(model, economies):
    economies(alone=Economy(guided=(0, 0)))
    pipeline = model("SD 1.5").load()
    plain = pipeline.txt2img(PROMPT, **{**OPTIONS, "cfg_scale": 1.0}).images[0]
    assert psnr(pipeline.txt2img(PROMPT, speed="alone", **OPTIONS).images[0], plain) > 70
    assert psnr(pipeline.txt2img(PROMPT, **OPTIONS).images[0], plain) < 50


@pytest.mark.parametrize("name", ["balanced", "fast"])
@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Heun", "Euler a"])
def test_each_picture_of_a_batch_is_drawn_as_if_alone(model, name, sampler):
    pipeline = model("SD 2.1").load()
    options = {**OPTIONS, "sampler": sampler, "speed": name}
    batch = pipeline.txt2img(PROMPT, batch_size=3, **options)
    alone = pipeline.txt2img(PROMPT, **{**options, "seed": 5})
    assert psnr(batch.images[2], alone.images[0]) > 55
    np.testing.assert_array_equal(pipeline.txt2img(PROMPT, batch_size=3, **options).images, batch.images)
    exact = pipeline.txt2img(PROMPT, **{**options, "speed": "exact"})
    assert batch.images[0] != exact.images[0]
    assert f"Speed: {name}" in batch.infotexts[0] and "Speed" not in exact.infotexts[0]


@pytest.mark.parametrize("prompt", ["a fox AND a red apple", "[fox:cat:0.5]", ""])
def test_prompts_of_every_kind_are_drawn_fast(model, prompt):
    pipeline = model("SD 1.5").load()
    first, again = (pipeline.txt2img(prompt, speed="fast", **OPTIONS).images[0] for _ in range(2))
    assert first == again


def test_both_engines_leave_out_the_same(model):
    made = model("SD 1.5")
    options = {**OPTIONS, "speed": "fast"}
    pictures = [made.load(engine).txt2img(PROMPT, **options).images[0] for engine in ("openvino", "torch")]
    assert psnr(*pictures) > 45
