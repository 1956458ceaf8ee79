"""Conditioning from the prompt grammar: weights, BREAK, scheduled and composed prompts."""

import numpy as np
import pytest
import torch
from PIL import Image

from pochade.diffusion.guidance import compose
from pochade.errors import InvalidRequest
from pochade.families.clip import emphasize
from pochade.generation.conditioning import encode_prompts
from pochade.generation.guided_unet import by_step
from pochade.generation.prompt_plan import prompts_of_steps
from pochade.generation.prompt_weights import weights_of
from pochade.generation.result import PromptSize
from pochade.images.metadata import read_parameters
from pochade.prompts.composition import composition
from pochade.request import Request
from pochade.request_options import Hires
from tests.models.measure import text_reference
from tests.pipeline.measure import draw_ours, draw_theirs, least_psnr, starting_noise
from tests.reference import relative_error

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = {"width": 40, "height": 24}


def encoded(tokenizer, encoder, texts, weights, *, skip=0, final_norm=True):
    """By transformers, one chunk for each text: (1, 77 * chunks, D) with the weights put to its tokens.

    weights: of each chunk, a table from the place of a token to its weight.
    """
    chunks = []
    for text, by_place in zip(texts, weights, strict=True):
        ids = tokenizer(text, padding="max_length", max_length=77, return_tensors="np").input_ids
        states, _ = text_reference(encoder, ids, skip=skip, final_norm=final_norm)
        weight = np.ones((1, 77, 1))
        for place, value in by_place.items():
            weight[0, place] = value
        weighed = states * weight
        chunks.append(weighed * states.mean() / weighed.mean())
    return np.concatenate(chunks, axis=1)


# --- weights and chunks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "texts", "weights"),
    [
        ("the (red:1.5) fox", ["the red fox"], [{2: 1.5}]),
        ("[the] ((red)) fox", ["the red fox"], [{1: 1 / 1.1, 2: 1.21}]),
        ("(the red:0) fox", ["the red fox"], [{1: 0, 2: 0}]),
        ("the fox BREAK (snow:0.7)", ["the fox", "snow"], [{}, {1: 0.7}]),
        (r"the \(red\) [[fox]]", ["the (red) fox"], [{5: 1.1**-2}]),
        ("(fox:1.2) BREAK BREAK the", ["fox", "", "the"], [{1: 1.2}, {}, {}]),
    ],
)
@pytest.mark.parametrize("family", ["SD 1.5", "SD 2.1"])
def test_weights(model, family, prompt, texts, weights):
    made = model(family)
    expected = encoded(made.theirs.tokenizer, made.theirs.text_encoder, texts, weights)
    ours = made.load().encode_prompt(prompt)
    assert ours.shape == expected.shape
    assert relative_error(ours, expected) < 1e-4


def test_weights_of_two_encoders(model):
    """The mean of each is restored by itself; the pooled vector knows no weights."""
    made = model("SDXL")
    theirs, options = made.theirs, {"skip": 1, "final_norm": False}
    texts, weights = ["the red fox"], [{2: 1.5}]
    first = encoded(theirs.tokenizer, theirs.text_encoder, texts, weights, **options)
    second = encoded(theirs.tokenizer_2, theirs.text_encoder_2, texts, weights, **options)
    pipeline = made.load()
    context, pooled = pipeline.encode_prompt("the (red:1.5) fox")
    assert relative_error(context, np.concatenate([first, second], axis=-1)) < 1e-4
    np.testing.assert_array_equal(pooled, pipeline.encode_prompt("the red fox")[1])


def test_the_mean_of_each_chunk_is_restored():
    rng = np.random.default_rng(0)
    context = rng.standard_normal((3, 5, 4), np.float32) + 1
    weights = np.ones((3, 5), np.float32)
    weights[0, 1:3], weights[2, 4] = 1.7, 0
    result = emphasize(context, weights)
    np.testing.assert_allclose(result.mean((1, 2)), context.mean((1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(result[1], context[1])
    assert (result[2, 4] == 0).all()
    np.testing.assert_allclose(result[0, 1] / context[0, 1] / 1.7, result[0, 0] / context[0, 0], rtol=1e-5)


@pytest.mark.parametrize(
    ("emphasis", "factors"),
    [("Original", [2 / 3, 4 / 3]), ("No norm", [1, 2]), ("Ignore", [1, 1]), ("None", [1, 1])],
)
def test_the_ways_of_emphasis(emphasis, factors):
    """Of two equal vectors, of which the second weighs twice: the mean grows by half, or is restored."""
    result = emphasize(np.ones((1, 2, 3), np.float32), np.array([[1, 2]], np.float32), emphasis)
    np.testing.assert_allclose(result[0], np.outer(factors, np.ones(3)), rtol=1e-6)


def test_without_a_mean_to_restore():
    """Of a mean near zero, as XL's encoders have it, the quotient says little: A1111 has "No norm"."""
    context = np.array([[[1.0, -1.0], [1.0, -0.999]]], np.float32)
    weights = np.array([[1, 1.2]], np.float32)
    np.testing.assert_allclose(emphasize(context, weights, "No norm")[0, 1], [1.2, -1.1988], rtol=1e-6)
    restored = emphasize(context, weights)[0]
    np.testing.assert_allclose(restored.mean(), context.mean(), rtol=1e-3)


@pytest.mark.parametrize("family", ["SD 1.5", "SDXL"])
def test_emphasis_that_is_not_read(model, family):
    pipeline = model(family).load()

    def context(prompt, emphasis):
        (found,) = encode_prompts(pipeline.networks, pipeline.tokenizers, [prompt], 1, emphasis)
        return found

    weighed, plain = "the (red:1.5) fox", "the red fox"
    ignored = context(weighed, "Ignore")
    np.testing.assert_array_equal(ignored.context, context(plain, "Original").context)
    assert context(weighed, "None").tokens > ignored.tokens  # brackets and number are text
    assert context("the fox BREAK the", "None").chunks == 1
    norms = {name: context(weighed, name).context for name in ("Original", "No norm")}
    assert relative_error(norms["No norm"], norms["Original"]) > 1e-4
    for name, found in norms.items():
        assert relative_error(found, ignored.context) > 1e-2, name
    np.testing.assert_array_equal(context(plain, "No norm").context, context(plain, "Original").context)


def test_a_mean_of_zero_cannot_be_restored():
    context = np.array([[[1.0], [-1.0]]], np.float32)
    assert emphasize(context, np.array([[0, 0]], np.float32)).tolist() == [[[0], [0]]]


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("the ([red]) fox", "the red fox"),
        ("the (red:1) fox", "the red fox"),
        ("the break fox and snow", "the Break fox And snow"),
        ("the [red:snow:0] fox", "the snow fox"),
        ("the [red|snow] fox", "the red fox"),  # at the first step
    ],
)
def test_two_ways_to_write_one_prompt(model, written, same):
    pipeline = model("SD 1.5").load()
    np.testing.assert_array_equal(pipeline.encode_prompt(written), pipeline.encode_prompt(same))


def test_1_000_brackets_draw_a_picture(model):
    """Not one of infinities."""
    pipeline = model("SD 1.5").load()
    context = pipeline.encode_prompt("the " + "(" * 1000 + "fox")
    assert np.isfinite(context).all()


def test_too_many_chunks_are_refused(model):
    with pytest.raises(InvalidRequest, match="fills 101 chunks with its 101 tokens; at most 64"):
        model("SD 1.5").load().encode_prompt("the BREAK " * 100 + "the")


# --- changes by step --------------------------------------------------------------------------------------


def test_which_step_a_noise_level_lies_in():
    levels = [8.0, 4.0, 2.0, 0.0]
    denoise = by_step(levels, [lambda x, sigma, i=i: i for i in range(3)])
    found = {sigma: denoise(None, sigma) for sigma in (9.0, 8.0, 6.0, 4.001, 4.0, 3.0, 2.0, 0.5, 1e-9)}
    assert found == {9.0: 0, 8.0: 0, 6.0: 0, 4.001: 0, 4.0: 1, 3.0: 1, 2.0: 2, 0.5: 2, 1e-9: 2}
    for rounded in (float(np.float32(0.1) * np.float32(20)), 4.0 * (1 - 1e-9), 4.0 * (1 + 1e-9)):
        assert denoise(None, rounded) == (1 if rounded > 3 else 2)


def test_steps_that_are_all_alike_need_no_looking_up():
    def denoise(x, sigma):
        return x

    assert by_step([2.0, 1.0, 0.0], [denoise, denoise]) is denoise


@pytest.mark.parametrize("label", ["Euler", "DPM++ 2M", "UniPC order 2"])
def test_a_picture_of_changing_prompts(model, label):
    """Against diffusers, whose embeddings are exchanged between two steps."""
    made, noise, steps = model("SD 1.5"), starting_noise([5]), 6
    positive, negative = "the [fox:(snow:1.3):3]", "[red|the] fox"
    texts = [("the fox", {}) if step <= 3 else ("the snow", {2: 1.3}) for step in range(1, steps + 1)]
    others = [("red fox", {}) if step % 2 else ("the fox", {}) for step in range(1, steps + 1)]
    theirs = made.theirs
    both = [
        [
            torch.from_numpy(encoded(theirs.tokenizer, theirs.text_encoder, [text], [weights])).float()
            for text, weights in pair
        ]
        for pair in zip(texts, others, strict=True)
    ]

    def exchange(pipe, index, timestep, given):
        following = min(index + 1, steps - 1)
        return {"prompt_embeds": torch.cat(both[following][::-1])}

    expected = draw_theirs(
        theirs,
        label,
        noise,
        [5],
        steps=steps,
        prompt_embeds=both[0][0],
        negative_prompt_embeds=both[0][1],
        callback_on_step_end=exchange,
        callback_on_step_end_tensor_inputs=["prompt_embeds"],
    )
    pipeline = made.load()
    ours = draw_ours(pipeline, label, noise, [5], positive, negative_prompt=negative, steps=steps)
    assert least_psnr(ours, expected) > 55
    constant = draw_ours(pipeline, label, noise, [5], "the fox", negative_prompt="red fox", steps=steps)
    assert least_psnr(ours, constant) < 45


@pytest.mark.parametrize("sampler", ["Heun", "DPM++ SDE", "Euler a"])
def test_what_changes_before_the_first_step_or_after_the_last(model, sampler):
    pipeline = model("SD 1.5").load()
    options = {**SIZE, "seed": 3, "steps": 4, "sampler": sampler}
    fox, snow = (pipeline.txt2img(text, **options).images[0] for text in ("the fox", "the snow"))
    for prompt, same in (
        ("the [fox:snow:4]", fox),
        ("the [fox:snow:1.0]", fox),
        ("the [fox:snow:0]", snow),
        ("[the fox:the snow:0.2]", snow),
    ):
        np.testing.assert_array_equal(pipeline.txt2img(prompt, **options).images[0], same)
    between = pipeline.txt2img("the [fox:snow:2]", **options).images[0]
    assert not np.array_equal(between, fox) and not np.array_equal(between, snow)


def test_the_second_pass_goes_on_where_the_first_ended(model):
    """4 steps and 4 more: whole numbers count on, fractions of the first pass are over."""
    pipeline = model("SD 1.5").load()
    options = {**SIZE, "seed": 3, "steps": 4, "hires": Hires(scale=2, steps=4)}
    fox, snow, both, other = (
        pipeline.txt2img(prompt, **options).images[0]
        for prompt in ("the fox", "the snow", "the [fox:snow:4]", "the [fox:snow:1.0]")
    )
    np.testing.assert_array_equal(both, other)
    assert not np.array_equal(both, fox) and not np.array_equal(both, snow)
    for prompt, same in (("the [fox:snow:8]", fox), ("the [fox:snow:2.0]", fox), ("the [fox:snow:0]", snow)):
        np.testing.assert_array_equal(pipeline.txt2img(prompt, **options).images[0], same)


def test_over_a_picture_steps_count_from_the_first_that_is_drawn(model):
    """Of 8 steps at strength 0.5 the last four are drawn; they are steps 1 to 4."""
    pipeline = model("SD 1.5").load()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8))
    options = {"image": image, "denoising_strength": 0.5, "seed": 3, "steps": 8}
    fox, snow, late, early = (
        pipeline.img2img(prompt, **options).images[0]
        for prompt in ("the fox", "the snow", "the [fox:snow:5]", "the [fox:snow:1]")
    )
    np.testing.assert_array_equal(late, fox)
    assert not np.array_equal(early, fox) and not np.array_equal(early, snow)


def test_all_texts_have_one_length_and_each_is_encoded_once(model, monkeypatch):
    pipeline = model("SD 1.5").load()
    contexts, chunks = set(), []
    networks = type(pipeline.networks)
    predict, encode_text = networks.predict, networks.encode_text

    def watched_predict(self, **arrays):
        contexts.add(arrays["context"].shape)
        return predict(self, **arrays)

    def watched_encode(self, encoder, function, **arrays):
        chunks.append(len(arrays["ids"]))
        return encode_text(self, encoder, function, **arrays)

    monkeypatch.setattr(networks, "predict", watched_predict)
    monkeypatch.setattr(networks, "encode_text", watched_encode)
    prompt = "[the|" + "red " * 80 + "] fox"
    result = pipeline.txt2img(prompt, negative_prompt="the fox", seed=1, steps=6, **SIZE)
    assert contexts == {(2, 154, 24)}
    assert chunks == [1, 2]  # "the fox" is a prompt and the negative prompt
    assert result.prompt_size == PromptSize(tokens=81, negative_tokens=2, chunks=2)


def test_xl_has_no_text_where_the_negative_prompt_is_empty(model):
    pipeline = model("SDXL").load()
    options = {**SIZE, "seed": 3, "steps": 3}
    empty = pipeline.txt2img("the fox", **options).images[0]
    for negative in ("[red::0]", "[:red:3]"):
        drawn = pipeline.txt2img("the fox", negative_prompt=negative, **options).images[0]
        np.testing.assert_array_equal(drawn, empty)


def test_encode_prompt_at_a_step(model):
    pipeline = model("SD 1.5").load()
    for step, text in ((1, "the fox"), (5, "the fox"), (6, "the snow"), (10, "the snow")):
        found = pipeline.encode_prompt("the [fox:snow:.5]", step=step, steps=10)
        np.testing.assert_array_equal(found, pipeline.encode_prompt(text))
    with pytest.raises(InvalidRequest, match="step is 11; it must lie between 1 and steps, 10"):
        pipeline.encode_prompt("the fox", step=11, steps=10)


# --- composed prompts -------------------------------------------------------------------------------------


def test_composed_predictions():
    conds, uncond = [np.array([3.0]), np.array([5.0])], np.array([1.0])
    assert compose(conds, [1.0, 0.5], uncond) == [1 + 2 + 0.5 * 4]
    assert compose(conds[:1], [1.0], uncond) == conds[0]


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_composed_prompts_make_the_picture_that_their_parts_do(model, scale):
    """One step by hand, from the contract's parts."""
    pipeline = model("SD 1.5").load()
    noise = starting_noise([1])
    sigma = pipeline.schedule.sigma(999)
    fox, snow, red = (
        pipeline.unet(noise, np.array([999.0], np.float32), pipeline.encode_prompt(text))
        for text in ("the fox", "(snow:1.2)", "red")
    )
    eps = red + scale * ((fox - red) + np.float32(0.5) * (snow - red))
    denoised = noise * np.float32((1 + sigma**2) ** 0.5) - np.float32(sigma) * eps
    options = {"cfg_scale": scale, "steps": 1, "sampler": "Euler", "schedule": "Uniform", "seed": 0, **SIZE}
    drawn = pipeline.txt2img(
        "the fox AND (snow:1.2):0.5", negative_prompt="red", noise=noise, **options
    ).images[0]
    assert least_psnr([np.asarray(drawn)], [np.asarray(pipeline.decode(denoised)[0])]) > 55


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_each_prompt_counts_in_its_region(model, scale):
    """One step by hand: two columns of five by one prediction, the last four by the other."""
    pipeline = model("SD 1.5").load()
    noise = starting_noise([1])
    sigma = pipeline.schedule.sigma(999)
    fox, snow, red = (
        pipeline.unet(noise, np.array([999.0], np.float32), pipeline.encode_prompt(text))
        for text in ("the fox", "snow", "red")
    )
    assert noise.shape[-1] % 5 == 0
    column = 5 * np.arange(noise.shape[-1]) // noise.shape[-1]
    left, right = ((column < 2).astype(np.float32), (column >= 1).astype(np.float32))
    eps = red + scale * (left * (fox - red) + np.float32(0.5) * right * (snow - red))
    denoised = noise * np.float32((1 + sigma**2) ** 0.5) - np.float32(sigma) * eps
    options = {"cfg_scale": scale, "steps": 1, "sampler": "Euler", "schedule": "Uniform", "seed": 0, **SIZE}
    drawn = pipeline.txt2img(
        "MASK(0 0.4)the fox AND MASK(0.2 1)snow:0.5", negative_prompt="red", noise=noise, **options
    )
    assert least_psnr([np.asarray(drawn.images[0])], [np.asarray(pipeline.decode(denoised)[0])]) > 55
    assert drawn.infotexts[0].startswith("MASK(0 0.4)the fox AND MASK(0.2 1)snow:0.5\n")


def test_a_latent_pixel_counts_by_its_share():
    whole, half = weights_of(composition("a AND MASK(0.25 0.625, 0.5 1) b:2"), 2, 4)
    assert whole == 1.0
    assert isinstance(half, np.ndarray)
    assert half.tolist() == [[0, 0, 0, 0], [0, 2, 1, 0]]


def test_composed_prompts_for_a_model_that_is_told_the_guidance_scale(model):
    pipeline = model("LCM").load()
    options = {**SIZE, "seed": 3, "steps": 2, "sampler": "LCM", "cfg_scale": 4.5}
    alone = pipeline.txt2img("the fox", **options).images[0]
    composed = pipeline.txt2img("the fox AND the fox:0", **options).images[0]
    assert least_psnr([np.asarray(composed)], [np.asarray(alone)]) > 50


def test_composed_prompts_have_no_single_conditioning(model):
    with pytest.raises(InvalidRequest, match="AND"):
        model("SD 1.5").load().encode_prompt("the fox AND snow")


# --- what a request says ----------------------------------------------------------------------------------


def test_wordings():
    first, second = prompts_of_steps("[a:b:1] AND c:2", "[x::1]", 2, guided=False)
    assert [(part.prompt.strip(), part.weight) for part in first.parts] == [("a", 1), ("c", 2)]
    assert [(part.prompt.strip(), part.weight) for part in second.parts] == [("b", 1), ("c", 2)]
    assert (first.negative, second.negative) == ("x", "")
    (only,) = prompts_of_steps("a", "x", 1, guided=False)
    assert only.negative is None


def test_networks_that_cannot_be_loaded_are_not_passed_over(model):
    pipeline = model("SD 1.5").load()
    for request in (Request(prompt="a <lora:x:1>"), Request(prompt="", negative_prompt="<hypernet:x>")):
        with pytest.raises(InvalidRequest, match=r"contains <(lora|hypernet):x>[,;] (but (no folder|hyper))"):
            next(pipeline.stream(request))


def test_the_text_of_the_picture_has_the_prompt_and_its_template(model):
    pipeline = model("SD 1.5").load()
    request = Request(
        prompt="a (fox:1.2)",
        negative_prompt="b",
        template="a ({fox|owl}:1.2)",
        negative_template="b",
        steps=1,
    )
    *_, last = pipeline.stream(request)
    found = read_parameters(last.result.infotexts[0])
    assert (found.prompt, found.negative_prompt) == ("a (fox:1.2)", "b")
    assert found.values["Template"] == "a ({fox|owl}:1.2)"
    assert "Negative Template" not in found.values
