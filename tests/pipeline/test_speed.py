"""Faster drawings: what is left out, what is not, and that pictures of a batch do not mix."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from PIL import Image

from pochade import speed
from pochade.speed import Economy
from pochade.ways import Control, Hires
from tests.reference import make_controlnet, psnr

OPTIONS = {"width": 40, "height": 24, "cfg_scale": 5.0, "steps": 8, "seed": 3}
PROMPT = "a red fox in the snow"


@pytest.fixture
def economies(monkeypatch):
    """`economies(name=Economy(...))`: further settings that a request may name."""

    def add(**named):
        monkeypatch.setattr(speed, "SPEEDS", MappingProxyType({**speed.SPEEDS, **named}))

    return add


@pytest.fixture(scope="module")
def controlnets(tmp_path_factory):
    """`controlnets(family)`: the folder of one."""

    def made(family):
        folder = tmp_path_factory.mktemp("controlnet")
        make_controlnet(family, 0, gain=1.0).save_pretrained(folder)
        return folder

    return made


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


@pytest.mark.parametrize("name", ["balanced", "fast"])
@pytest.mark.parametrize("family", ["SD 1.5", "SDXL"])
def test_the_text_says_what_was_left_out(model, controlnets, family, name):
    """`Speed: fast` of a picture of which everything was computed would tell of another picture."""
    pipeline = model(family).load()

    def drawn(**options):
        return pipeline.txt2img(PROMPT, **{**OPTIONS, "speed": name, **options})

    assert f"Speed: {name}" in drawn().infotexts[0]
    one_step, exact = drawn(steps=1), drawn(steps=1, speed="exact")
    assert "Speed" not in one_step.infotexts[0] and one_step.infotexts == exact.infotexts
    # A ControlNet reads the whole UNet: along with it everything is computed, in the steps that it acts in.
    control = Control(image=Image.new("RGB", (40, 24), "gray"), model=controlnets(family))
    steered = drawn(controls=(control,))
    assert "Speed" not in steered.infotexts[0]
    in_the_middle = drawn(controls=(replace(control, end=0.3),), steps=20)
    assert f"Speed: {name}" in in_the_middle.infotexts[0]
    second = drawn(hires=Hires(scale=2, steps=8, denoising_strength=0.9), steps=1)
    assert f"Speed: {name}" in second.infotexts[0]


def test_guidance_that_is_left_out_is_said(model, economies):
    economies(alone=Economy(guided=(0, 0)))
    pipeline = model("SD 1.5").load()
    assert "Speed: alone" in pipeline.txt2img(PROMPT, speed="alone", **OPTIONS).infotexts[0]
    unguided = pipeline.txt2img(PROMPT, speed="alone", **{**OPTIONS, "cfg_scale": 1.0})
    assert "Speed" not in unguided.infotexts[0]
