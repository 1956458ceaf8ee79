"""Speed settings: which computations are skipped, and that pictures of a batch are independent."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from PIL import Image

from pochade import speed
from pochade.generation.guided_unet import FeatureCache, reusing_noise
from pochade.loading.networks import Networks
from pochade.request_options import Control, Hires
from pochade.speed import SpeedProfile
from tests.reference import make_controlnet, psnr

OPTIONS = {"width": 40, "height": 24, "cfg_scale": 5.0, "steps": 8, "seed": 3}
PROMPT = "a red fox in the snow"


@pytest.fixture
def economies(monkeypatch):
    """`economies(name=SpeedProfile(...))`: further settings that a request may name."""

    def add(**named):
        monkeypatch.setattr(speed, "SPEEDS", MappingProxyType({**speed.SPEEDS, **named}))

    return add


@pytest.fixture
def evaluated(monkeypatch):
    """`evaluated()`: how many conditionings the UNet was asked for since the last call."""
    rows = []
    for name in ("predict", "predict_with_controlnets", "predict_with_features", "predict_from_features"):
        real = getattr(Networks, name)

        def counting(networks, *arguments, real=real, **arrays):
            rows.append(len(arrays["x"]))
            return real(networks, *arguments, **arrays)

        monkeypatch.setattr(Networks, name, counting)

    def taken():
        found = sum(rows)
        rows.clear()
        return found

    return taken


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
    economies(careful=SpeedProfile(guided=(0, 1)), split=SpeedProfile(full=((1.0, 0.0),)))
    for family in ("SD 1.5", "SDXL"):
        pipeline = model(family).load()
        exact = pipeline.txt2img(PROMPT, **OPTIONS).images[0]
        for name in ("careful", "split"):
            assert psnr(pipeline.txt2img(PROMPT, speed=name, **OPTIONS).images[0], exact) > 70, (family, name)


def test_without_guidance_the_prompt_alone_draws(model, economies):
    economies(alone=SpeedProfile(guided=(0, 0)))
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
    economies(alone=SpeedProfile(guided=(0, 0)))
    pipeline = model("SD 1.5").load()
    assert "Speed: alone" in pipeline.txt2img(PROMPT, speed="alone", **OPTIONS).infotexts[0]
    unguided = pipeline.txt2img(PROMPT, speed="alone", **{**OPTIONS, "cfg_scale": 1.0})
    assert "Speed" not in unguided.infotexts[0]


HELD = SpeedProfile(full=((1.0, 2.0),), held=((1.0, 2.0),))
"""The first step is computed, and what it found is held to the end."""


def test_held_noise_is_that_of_the_last_evaluation():
    memory = FeatureCache()
    find = reusing_noise(lambda x, sigma: x / 2 + sigma, memory, held=False)
    hold = reusing_noise(lambda x, sigma: x / 4, memory, held=True)
    x = np.full((1, 1, 2, 2), 8.0, np.float32)
    assert hold(x, 2.0).max() == 2  # nothing was found so far: computed
    assert memory.noise.max() == 3 and not memory.left_out
    assert find(x, 2.0).max() == 6 and memory.noise.max() == 1
    held = hold(x, 0.5)
    assert held.max() == held.min() == 7.5 and held.dtype == np.float32 and memory.left_out


@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_holding_from_the_first_step_on_is_one_long_step(model, economies, evaluated, sampler):
    """Straight towards the data that the first step found: what one step of Euler's method draws."""
    economies(held=HELD)
    pipeline = model("SD 1.5").load()
    options = {**OPTIONS, "sampler": sampler, "schedule": "Karras"}
    held = pipeline.txt2img(PROMPT, speed="held", **options)
    assert evaluated() == 2
    assert psnr(held.images[0], pipeline.txt2img(PROMPT, **{**options, "steps": 1}).images[0]) > 60
    assert "Speed: held" in held.infotexts[0]


@pytest.mark.parametrize(
    ("sampler", "eta", "computed"),
    [
        *(("DPM++ 2M", None, 1), ("UniPC", None, 1), ("LCM", None, 8)),
        *(("DDIM", None, 1), ("DDIM", 0.5, 8), ("Euler a", None, 8), ("Euler a", 0.0, 1)),
        *(("DPM++ 2M SDE", None, 8), ("DPM++ 2M SDE", 0.0, 1)),
    ],
)
def test_nothing_is_held_where_noise_is_added(model, economies, evaluated, sampler, eta, computed):
    economies(held=HELD)
    pipeline = model("SD 1.5").load()
    pipeline.txt2img(PROMPT, speed="held", sampler=sampler, eta=eta, **OPTIONS)
    assert evaluated() == 2 * computed


def test_what_other_words_or_a_controlnet_found_is_not_held(model, economies, evaluated, controlnets):
    economies(held=HELD)
    pipeline = model("SD 1.5").load()
    pipeline.txt2img("a [fox:cat:0.5]", speed="held", **OPTIONS)
    assert evaluated() == 2 * 2
    pipeline.txt2img("a [fox|cat]", speed="held", **OPTIONS)
    assert evaluated() == 2 * 8
    control = Control(image=Image.new("RGB", (40, 24), "gray"), model=controlnets("SD 1.5"), end=0.5)
    pipeline.txt2img(PROMPT, speed="held", controls=(control,), **OPTIONS)
    assert evaluated() == 2 * 5  # four steered steps, and the first one after them


def test_a_batch_holds_each_picture_s_own(model, economies):
    economies(held=HELD)
    pipeline = model("SD 1.5").load()
    batch = pipeline.txt2img(PROMPT, speed="held", batch_size=3, **OPTIONS)
    alone = pipeline.txt2img(PROMPT, speed="held", **{**OPTIONS, "seed": 5})
    assert psnr(batch.images[2], alone.images[0]) > 55
