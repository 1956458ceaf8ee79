"""Interpolation between prompts and seeds."""

from dataclasses import replace

import numpy as np
import pytest

from pochade.diffusion.noise import picture_noise, slerp
from pochade.errors import InvalidRequest
from pochade.generation.conditioning import encode_prompts
from pochade.generation.generate import prompt_plans
from pochade.generation.infotext_request import request_from
from pochade.generation.settle import settle
from pochade.pipeline.pipeline import finish
from pochade.request import Request
from pochade.request_options import Blend, Variation
from pochade.tools.interpolate import frames

A, B = "a red fox in the snow", "the 4k cat"
REQUEST = Request(prompt=A, seed=5, steps=3, width=24, height=16, sampler="Euler")


def drawn(pipeline, request, **inputs):
    (image,) = finish(pipeline.stream(request, **inputs)).images
    return np.asarray(image).astype(int)


def told_in(pipeline, request):
    """What the UNet is told in the first pass."""
    settled, _ = settle(pipeline.networks, request, pipeline.defaults, pipeline.roots)
    return prompt_plans(pipeline.model, settled)[0]


@pytest.mark.parametrize("family", ["SD 1.5", "SDXL"])
def test_the_ends_are_the_prompts_alone(model, family):
    pipeline = model(family).load()
    one, other = drawn(pipeline, REQUEST), drawn(pipeline, replace(REQUEST, prompt=B))
    middle = drawn(pipeline, replace(REQUEST, blend=Blend(prompt=B, share=0.5)))
    np.testing.assert_array_equal(drawn(pipeline, replace(REQUEST, blend=Blend(prompt=B, share=0))), one)
    np.testing.assert_array_equal(drawn(pipeline, replace(REQUEST, blend=Blend(prompt=B, share=1))), other)
    apart = [abs(middle - end).mean() for end in (one, other)]
    assert 0 < max(apart) < abs(one - other).mean()


def test_what_the_unet_is_told_is_mixed_number_by_number(model):
    pipeline = model("SDXL").load()
    one, other = encode_prompts(pipeline.networks, pipeline.tokenizers, [A, B], 1)
    told = told_in(pipeline, replace(REQUEST, blend=Blend(prompt=B, share=0.25), negative_prompt=A))
    (wording,) = set(told.steps)
    mixed, negative = told.conditionings[wording]
    np.testing.assert_allclose(mixed.context, 0.75 * one.context + 0.25 * other.context, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(mixed.pooled, 0.75 * one.pooled + 0.25 * other.pooled, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(negative.context, one.context)


def test_prompts_that_change_and_long_ones(model):
    """Each step blends what the two say in it; the shorter one is repeated to the longer one's length."""
    pipeline = model("SD 1.5").load()
    changing = replace(REQUEST, prompt="a [fox:cat:1]", blend=Blend(prompt="[red:4k:2]", share=0.5))
    told = told_in(pipeline, changing)
    assert [(step.parts[0].prompt, step.blend_with) for step in told.steps] == [
        ("a fox", "red"), ("a cat", "red"), ("a cat", "4k"),
    ]  # fmt: skip
    long = replace(REQUEST, blend=Blend(prompt=" fox," * 60, share=0.5))
    told = told_in(pipeline, long)
    assert {each.context.shape[1] for given in told.conditionings.values() for each in given} == {154}
    drawn(pipeline, long)


def test_a_blend_is_in_the_text(model):
    pipeline = model("SD 1.5").load()
    request = replace(REQUEST, blend=Blend(prompt='the "4k", cat', share=0.25))
    (text,) = finish(pipeline.stream(request)).infotexts
    assert 'Blend prompt: "the \\"4k\\", cat", Blend share: 0.25' in text
    assert request_from(text).blend == request.blend


def test_composed_prompts_do_not_blend(model):
    pipeline = model("SD 1.5").load()
    for request in (
        replace(REQUEST, blend=Blend(prompt="a AND b", share=0.5)),
        replace(REQUEST, prompt="a AND b", blend=Blend(prompt="c", share=0.5)),
    ):
        with pytest.raises(InvalidRequest, match="cannot contain prompts joined by AND"):
            drawn(pipeline, request)


def test_frames():
    keyframes = [replace(REQUEST, prompt=prompt, seed=seed) for prompt, seed in ((A, 5), (B, 6), (B, 7))]
    way = frames(keyframes, 5)
    assert way[0] == keyframes[0] and way[2] == keyframes[1] and way[4] == keyframes[2]
    assert way[1] == replace(
        keyframes[0], blend=Blend(prompt=B, share=0.5), variation=Variation(seed=6, strength=0.5)
    )
    assert way[3] == replace(keyframes[1], variation=Variation(seed=7, strength=0.5))
    assert frames(keyframes[:2], 2) == keyframes[:2]
    around = frames(keyframes[:2], 4, loop=True)
    assert (
        around[0] == keyframes[0]
        and around[2] == keyframes[1]
        and around[3].blend == Blend(prompt=A, share=0.5)
    )
    shares = [each.blend.share for each in frames(keyframes[:2], 12)[1:-1] if each.blend]
    np.testing.assert_allclose(shares, np.arange(1, 11) / 11)


def test_noise_goes_along_the_sphere(model):
    pipeline = model("SD 1.5").load()
    _, middle, _ = frames([REQUEST, replace(REQUEST, seed=6)], 3)
    noise = slerp(picture_noise(5, 0, (4, 4, 6)), picture_noise(6, 0, (4, 4, 6)), 0.5)[None]
    np.testing.assert_array_equal(drawn(pipeline, middle), drawn(pipeline, REQUEST, noise=noise))


@pytest.mark.parametrize(
    ("keyframes", "count", "fault"),
    [
        ([REQUEST], 3, "needs at least two prompts or two seeds"),
        ([REQUEST] * 3, 2, "frames is 2; it must lie between 3 and 1000"),
        ([replace(REQUEST, blend=Blend(prompt=B, share=0.5))] * 2, 2, "prompts without a blend"),
        (
            [replace(REQUEST, variation=Variation(), seed=seed) for seed in (1, 2)],
            2,
            "uses variations itself",
        ),
    ],
)
def test_what_is_no_walk(keyframes, count, fault):
    with pytest.raises(InvalidRequest, match=fault):
        frames(keyframes, count)


def test_a_share_beyond_the_ends():
    with pytest.raises(InvalidRequest, match=r"share of a blend is 1\.5"):
        Blend(prompt="a", share=1.5)
    with pytest.raises(InvalidRequest, match="prompt of a blend has 200,001 characters"):
        Request(prompt="a", blend=Blend(prompt="a" * 200_001, share=0.5))
