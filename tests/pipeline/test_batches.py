"""The same seed gives the same picture, alone or in a batch, on any engine."""

import numpy as np
import pytest

from pochade.request import Request
from tests.reference import psnr

OPTIONS = {"width": 40, "height": 24, "cfg_scale": 5.0}
PROMPT = "a red fox in the snow"


@pytest.mark.parametrize("engine", ["openvino", "torch"])
@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler a"])
def test_the_third_of_four_is_the_picture_of_its_seed(model, engine, sampler):
    pipeline = model("SD 2.1").load(engine)
    options = {**OPTIONS, "sampler": sampler, "steps": 8}
    batch = pipeline.txt2img(PROMPT, seed=40, batch_size=4, **options)
    alone = pipeline.txt2img(PROMPT, seed=42, **options)
    assert batch.seeds == [40, 41, 42, 43]
    assert alone.seeds == [42]
    assert batch.infotexts[2] == alone.infotexts[0]
    assert psnr(batch.images[2], alone.images[0]) > 55
    assert psnr(batch.images[1], alone.images[0]) < 30


@pytest.mark.parametrize("sampler", ["DPM++ SDE", "LCM", "UniPC"])
def test_openvino_and_torch_draw_the_same(model, sampler):
    made = model("SD 2.1")
    options = {**OPTIONS, "seed": 7, "sampler": sampler, "steps": 10}
    pictures = [made.load(engine).txt2img(PROMPT, **options).images[0] for engine in ("openvino", "torch")]
    assert psnr(*pictures) > 45


def test_a_seed_is_drawn_if_none_is_given_and_gives_its_picture_again(model):
    pipeline = model("SD 1.5").load()
    options = {**OPTIONS, "steps": 2}
    first, other = (pipeline.txt2img(PROMPT, **options) for _ in range(2))
    assert first.seeds != other.seeds
    again = pipeline.txt2img(PROMPT, seed=first.seeds[0], **options)
    np.testing.assert_array_equal(again.images[0], first.images[0])


def test_given_noise_takes_the_place_of_the_seeds(model):
    pipeline = model("SD 1.5").load()
    noise = np.random.default_rng(0).standard_normal((2, 4, 6, 10), np.float32)
    options = {**OPTIONS, "steps": 3, "batch_size": 2, "sampler": "Euler"}
    one, two = (pipeline.txt2img(PROMPT, seed=seed, noise=noise, **options) for seed in (1, 2))
    np.testing.assert_array_equal(one.images, two.images)
    swapped = pipeline.txt2img(PROMPT, seed=1, noise=noise[::-1], **options)
    np.testing.assert_array_equal(swapped.images, np.stack(one.images)[::-1])


def test_a_stream_that_is_left_early_leaves_the_pipeline_as_it_was(model):
    pipeline = model("SD 2.1").load("openvino")
    request = Request(prompt=PROMPT, seed=3, steps=6, **OPTIONS)
    expected = pipeline.txt2img(PROMPT, seed=3, steps=6, **OPTIONS).images[0]
    stream = pipeline.stream(request)
    assert next(stream).step == 1
    assert next(stream).step == 2
    stream.close()
    assert list(stream) == []
    np.testing.assert_array_equal(pipeline.txt2img(PROMPT, seed=3, steps=6, **OPTIONS).images[0], expected)


def test_two_streams_in_turns_do_not_disturb_each_other(model):
    pipeline = model("SD 2.1").load("openvino")
    requests = [Request(prompt=PROMPT, seed=seed, steps=4, sampler="Euler a", **OPTIONS) for seed in (1, 2)]
    expected = [pipeline.txt2img(PROMPT, seed=seed, steps=4, sampler="Euler a", **OPTIONS) for seed in (1, 2)]
    for pair in zip(*(pipeline.stream(request) for request in requests), strict=True):
        results = [progress.result for progress in pair]
    for result, alone in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result.images[0], alone.images[0])


def test_progress(model):
    pipeline = model("SD 1.5").load()
    request = Request(prompt=PROMPT, seed=3, steps=5, batch_size=2, sampler="Heun", **OPTIONS)
    steps = list(pipeline.stream(request))
    assert [(each.step, each.steps) for each in steps] == [(i, 5) for i in range(1, 6)]
    assert [each.result is None for each in steps] == [True] * 4 + [False]
    assert all(each.denoised.shape == (2, 4, 6, 10) for each in steps)
    previews = steps[0].preview()
    assert [picture.size for picture in previews] == [(40, 24)] * 2
    assert psnr(previews[0], steps[-1].result.images[0]) < psnr(
        steps[3].preview()[0], steps[-1].result.images[0]
    )


def test_the_parts_make_the_picture(model):
    """What a researcher puts together by hand from the contract's parts is what `txt2img` draws."""
    pipeline = model("SD 1.5").load()
    noise = np.random.default_rng(1).standard_normal((1, 4, 6, 10), np.float32)
    levels = pipeline.schedule
    sigma = levels.sigma(999)
    context = pipeline.encode_prompt(PROMPT)
    eps = pipeline.unet(noise, np.array([999.0], np.float32), context)
    scale = np.float32((1 + sigma**2) ** 0.5)
    denoised = noise * scale - np.float32(sigma) * eps
    by_hand = pipeline.decode(denoised)[0]
    options = {**OPTIONS, "cfg_scale": 1.0, "steps": 1, "sampler": "Euler", "schedule": "Uniform"}
    drawn = pipeline.txt2img(PROMPT, noise=noise, **options).images[0]
    assert by_hand.size == (40, 24)
    assert psnr(by_hand, drawn) > 55


def test_a_picture_through_the_autoencoder(model):
    """`encode_image` gives the scaled mean of the posterior, `decode` undoes the scale; as diffusers' own."""
    import torch
    from PIL import Image

    made = model("SD 1.5")
    pipeline, vae = made.load(), made.theirs.vae
    pixels = np.random.default_rng(2).integers(0, 256, (24, 40, 3), np.uint8)
    latent = pipeline.encode_image([Image.fromarray(pixels), Image.fromarray(pixels[::-1])])
    assert latent.shape == (2, 4, 6, 10)
    picture = torch.from_numpy(pixels.astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1)
    with torch.inference_mode():
        expected = vae.encode(picture).latent_dist.mean * vae.config.scaling_factor
        decoded = vae.decode(expected / vae.config.scaling_factor).sample
    np.testing.assert_allclose(latent[:1], expected.numpy(), rtol=1e-3, atol=1e-4)
    theirs = ((decoded[0].numpy().clip(-1, 1) + 1) * 127.5).round().transpose(1, 2, 0)
    assert psnr(pipeline.decode(latent)[0], theirs) > 50
