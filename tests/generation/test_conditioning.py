"""Encoded prompts, compared with transformers: long, empty, two encoders, clip skip."""

import shutil
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from pochade.errors import InvalidRequest
from pochade.generation import conditioning
from pochade.generation.conditioning import common_length, common_lengths, context_shapes, encode_prompts
from pochade.generation.infotext_request import request_from
from pochade.generation.prompt_plan import prompts_of_steps
from pochade.pipeline.pipeline import finish
from pochade.request import Request
from pochade.request_options import Blend
from tests.models.measure import text_reference
from tests.pipeline.measure import draw_ours, draw_theirs, least_psnr, starting_noise
from tests.reference import FACTOR, psnr, randomize, relative_error
from tests.tiny_models import Model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

WORDS = ["red", "fox", "the", "snow"]  # one token each
LONG = " ".join(WORDS[i * i % 4] for i in range(100))  # 75 and 25 tokens
WIDTH = 6 * FACTOR
FIRST, SECOND = " ".join(LONG.split()[:75]), " ".join(LONG.split()[75:])


def encoded(tokenizer, encoder, prompt, *, skip=0, final_norm=True):
    """(1, 77, D) and (1, P) of transformers, for a prompt of one chunk."""
    ids = tokenizer(
        prompt, padding="max_length", max_length=77, truncation=True, return_tensors="np"
    ).input_ids
    return text_reference(encoder, ids, skip=skip, final_norm=final_norm)


def encoded_by_xl(theirs, prompt, skip=1):
    """(1, 77, D of both) and the second encoder's pooled vector."""
    first, _ = encoded(theirs.tokenizer, theirs.text_encoder, prompt, skip=skip, final_norm=False)
    second, pooled = encoded(theirs.tokenizer_2, theirs.text_encoder_2, prompt, skip=skip, final_norm=False)
    return np.concatenate([first, second], axis=-1), pooled


@pytest.mark.parametrize("engine", ["numpy", "openvino", "torch"])
@pytest.mark.parametrize("prompt", ["a red fox", "", FIRST, "日本の狐 🦊"])
def test_one_chunk(model, engine, prompt):
    made = model("SD 1.5")
    expected, _ = encoded(made.theirs.tokenizer, made.theirs.text_encoder, prompt)
    ours = made.load(engine).encode_prompt(prompt)
    assert ours.shape == (1, 77, 24)
    assert relative_error(ours, expected) < 1e-4


@pytest.mark.parametrize("family", ["SD 1.5", "SD 2.1"])
def test_a_prompt_of_100_tokens_is_two_chunks(model, family):
    """SD 2.1 fills its chunks up with "!", SD 1.5 with the end token."""
    made = model(family)
    parts = [encoded(made.theirs.tokenizer, made.theirs.text_encoder, part)[0] for part in (FIRST, SECOND)]
    ours = made.load().encode_prompt(LONG)
    assert ours.shape == (1, 154, 24)
    assert relative_error(ours, np.concatenate(parts, axis=1)) < 1e-4


def test_two_encoders(model):
    """Side by side, from the last layer but one, without the final norm; pooled is the second's."""
    made = model("SDXL")
    expected, expected_pooled = encoded_by_xl(made.theirs, "a red fox")
    context, pooled = made.load().encode_prompt("a red fox")
    assert context.shape == (1, 77, 24 + 32)
    assert relative_error(context, expected) < 1e-4
    assert relative_error(pooled, expected_pooled) < 1e-4


def test_two_encoders_and_two_chunks(model):
    """The pooled vector is the first chunk's, which holds what matters most."""
    made = model("SDXL")
    first, expected_pooled = encoded_by_xl(made.theirs, FIRST)
    second, _ = encoded_by_xl(made.theirs, SECOND)
    context, pooled = made.load().encode_prompt(LONG)
    assert relative_error(context, np.concatenate([first, second], axis=1)) < 1e-4
    assert relative_error(pooled, expected_pooled) < 1e-4


@pytest.mark.parametrize("clip_skip", [1, 2, 3])
def test_clip_skip(model, clip_skip):
    """1 is the layer that a family uses by itself: the last of SD 1.x and 2.x, the one before of SDXL."""
    made = model("SD 1.5")
    theirs = made.theirs
    expected, _ = encoded(theirs.tokenizer, theirs.text_encoder, "a red fox", skip=clip_skip - 1)
    assert relative_error(made.load().encode_prompt("a red fox", clip_skip=clip_skip), expected) < 1e-4


@pytest.mark.parametrize(("clip_skip", "skipped"), [(1, 1), (2, 1), (3, 2)])
def test_clip_skip_of_two_encoders(model, clip_skip, skipped):
    """Counted from the end, as in Forge and ComfyUI; nothing later than the last layer but one is read."""
    made = model("SDXL")
    expected, expected_pooled = encoded_by_xl(made.theirs, "a red fox", skip=skipped)
    context, pooled = made.load().encode_prompt("a red fox", clip_skip=clip_skip)
    assert relative_error(context, expected) < 1e-4
    assert relative_error(pooled, expected_pooled) < 1e-4


@pytest.mark.parametrize(("clip_skip", "skipped"), [(1, 0), (2, 0), (3, 1), (4, 2)])
def test_clip_skip_where_the_last_layer_is_not_in_the_file(model, clip_skip, skipped, tmp_path):
    """SD 2.x reads OpenCLIP's last layer but one, and the files hold 23 of its 24."""
    made = model("SD 2.1")
    shutil.copytree(made.folder, tmp_path / "model")
    config = CLIPTextConfig(**{**made.theirs.text_encoder.config.to_dict(), "num_hidden_layers": 23})
    encoder = randomize(CLIPTextModel(config), seed=3, gain=1.0)
    encoder.save_pretrained(tmp_path / "model" / "text_encoder")
    expected, _ = encoded(made.theirs.tokenizer, encoder, "a red fox", skip=skipped)
    other, _ = encoded(made.theirs.tokenizer, encoder, "a red fox", skip=skipped + 1)
    ours = Model(made.theirs, tmp_path / "model").load().encode_prompt("a red fox", clip_skip=clip_skip)
    assert relative_error(ours, expected) < 1e-4 < relative_error(ours, other)


def test_a_picture_of_xl_that_says_clip_skip_2_is_the_usual_one(model):
    """As most pictures of Pony and Illustrious models say."""
    pipeline = model("SDXL").load()
    text = f"the red fox\nSteps: 2, Sampler: Euler, CFG scale: 7, Seed: 3, Size: {WIDTH}x{WIDTH}"
    drawn = [
        finish(pipeline.stream(request_from(f"{text}{more}"))).images[0]
        for more in ("", ", Clip skip: 2", ", Clip skip: 3")
    ]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(("family", "clip_skip"), [("SD 1.5", 4), ("SDXL", 4)])
def test_more_layers_skipped_than_there_are(model, family, clip_skip):
    with pytest.raises(InvalidRequest, match=f"clip_skip is {clip_skip}.*3 layers"):
        model(family).load().encode_prompt("a red fox", clip_skip=clip_skip)


def test_the_end_token_of_configurations_of_before_2023(model):
    """eos_token_id 2 stood in them, and still the vector at the real end token was meant."""
    pipeline = model("SDXL").load()
    networks = pipeline.networks
    old = replace(networks.text_encoder_2, config=replace(networks.text_encoder_2.config, end_token=2))
    both = (networks.text_encoder, old)
    dated = replace(pipeline, model=replace(pipeline.model, networks=replace(networks, text_encoders=both)))
    np.testing.assert_array_equal(dated.encode_prompt("a red fox")[1], pipeline.encode_prompt("a red fox")[1])


def of(chunks):
    """A prompt of so many chunks."""
    return " ".join(WORDS[i * i % 4] for i in range(75 * chunks - 10))


@pytest.mark.parametrize(
    ("prompt", "negative", "called"),
    [
        (LONG, "the fox", [(2, 2)]),  # rows, and chunks that they are repeated to
        ("the fox", LONG, [(2, 2)]),
        (LONG, LONG[::-1], [(2, 4)]),
        (of(2), of(3), [(2, 6)]),
        (of(4), of(3), [(1, 4), (1, 3)]),  # 12 are more than twice 4
        (LONG, "", [(2, 2)]),
    ],
)
def test_pictures_of_prompts_of_different_lengths(model, prompt, negative, called, monkeypatch):
    """Each text keeps its own chunks: diffusers' UNet is given each by itself."""
    made, noise = model("SD 1.5"), starting_noise([5])
    pipeline = made.load()
    ids = [pipeline.tokenizers[0].encode(text) for text in (negative, prompt)]
    contexts = [_in_chunks(made.theirs, each, max(1, -(-len(each) // 75))) for each in ids]
    seen, predict = [], type(pipeline.networks).predict

    def watched(self, **arrays):
        rows, tokens, _ = arrays["context"].shape
        seen.append((rows, tokens // 77))
        return predict(self, **arrays)

    monkeypatch.setattr(type(pipeline.networks), "predict", watched)
    ours = draw_ours(pipeline, "Euler", noise, [5], prompt, negative_prompt=negative)
    forward, stand_in = made.theirs.unet.forward, torch.zeros_like(contexts[0])

    def one_by_one(sample, timestep, encoder_hidden_states, return_dict, **rest):
        pairs = zip(sample.split(1), contexts, strict=True)
        return (torch.cat([forward(x, timestep, context, return_dict=False)[0] for x, context in pairs]),)

    monkeypatch.setattr(made.theirs.unet, "forward", one_by_one)
    theirs = draw_theirs(
        made.theirs, "Euler", noise, [5], prompt_embeds=stand_in, negative_prompt_embeds=stand_in
    )
    assert seen == called * 20
    assert least_psnr(ours, theirs) > 50


def _in_chunks(theirs, ids, chunks):
    """Token ids in `chunks` sequences, each encoded by transformers: (1, 77 * chunks, D)."""
    start, end = theirs.tokenizer.bos_token_id, theirs.tokenizer.eos_token_id
    rows = []
    for number in range(chunks):
        part = ids[number * 75 : (number + 1) * 75]
        rows.append([start, *part, *[end] * (76 - len(part))])
    context, _ = text_reference(theirs.text_encoder, np.array(rows), skip=0, final_norm=True)
    return torch.from_numpy(context.reshape(1, 77 * chunks, -1))


@pytest.mark.parametrize(
    ("lengths", "common"),
    [
        ([77], 77),
        ([77, 154], 154),
        ([154, 231], 462),
        ([231, 308], None),
        ([77, 154, 231], 462),
        ([77 * 2, 77 * 3, 77 * 4], None),
        ([77 * 64, 77], 77 * 64),
        ([77 * 60, 77 * 40], None),  # twice the longer one, and more than memory is meant for
        ([34 * 100, 34], 34 * 100),
    ],
)
def test_the_length_that_texts_have_in_common(lengths, common):
    assert common_length(lengths) == common


def test_all_wordings_have_one_length_if_they_can():
    assert common_lengths([[1, 2], [3, 1]]) == [6, 6]
    assert common_lengths([[2, 1], [5, 1], [3, 4]]) == [2, 5, None]


@pytest.mark.parametrize("family", ["SD 1.5", "SDXL"])
@pytest.mark.parametrize(
    "options",
    [
        {"prompt": LONG, "negative_prompt": "the fox"},
        {"prompt": "the fox", "negative_prompt": LONG},
        {"prompt": f"{LONG} AND the snow AND {of(3)}", "negative_prompt": "red"},
        {"prompt": f"[{LONG}:the snow:2]", "negative_prompt": "red"},
        {"prompt": LONG, "negative_prompt": "red", "speed": "fast"},
    ],
)
def test_repeated_contexts_draw_what_each_by_itself_draws(model, family, options, monkeypatch):
    pipeline = model(family).load()
    request = Request(**options, seed=3, steps=4, width=WIDTH, height=WIDTH)
    at_once = np.asarray(finish(pipeline.stream(request)).images[0])
    monkeypatch.setattr(conditioning, "common_length", lambda _: None)
    apart = np.asarray(finish(pipeline.stream(request)).images[0])
    assert psnr(apart, at_once) > 60


def test_a_text_is_encoded_the_same_whatever_stands_beside_it(model):
    """Long negative prompts changed what the positive one means."""
    networks, tokenizers = (pipeline := model("SD 1.5").load()).networks, pipeline.tokenizers
    alone, long = (encode_prompts(networks, tokenizers, ["a red fox", *more], 1)[0] for more in ([], [of(3)]))
    np.testing.assert_array_equal(alone.context, long.context)
    assert (alone.chunks, long.chunks) == (1, 1)


def test_a_blend_of_prompts_of_different_lengths_ends_in_each_of_them(model):
    pipeline = model("SD 1.5").load()

    def drawn(prompt, **more):
        result = pipeline.txt2img(prompt, seed=3, steps=3, width=WIDTH, height=WIDTH, **more)
        return np.asarray(result.images[0])

    for share, alone in ((0.0, of(2)), (1.0, of(3))):
        assert psnr(drawn(of(2), blend=Blend(prompt=of(3), share=share)), drawn(alone)) > 60
    with pytest.raises(InvalidRequest, match="fill 8 and 9 chunks"):
        drawn(of(8), blend=Blend(prompt=of(9), share=0.5))


@pytest.mark.parametrize("engine", ["openvino", "numpy"])
def test_the_plan_counts_a_graph_for_each_length_that_needs_its_own(model, engine):
    """Where a graph takes texts of up to 8 chunks, these need one."""
    pipeline = model("SD 1.5").load(engine)

    def unet(prompt, negative):
        return pipeline.plan(Request(prompt=prompt, negative_prompt=negative)).parts["UNet"]

    assert unet(of(2), of(3)) == unet("the fox", "") == unet(f"[the fox:{of(2)}:5]", "the snow")
    assert (unet(of(4), of(3)) > unet(of(2), of(3))) == (engine == "numpy")
    assert (unet(of(8), of(7)) > unet(of(2), of(3))) == (engine == "numpy")
    assert unet(of(9), of(8)) > unet(of(2), of(3))


@pytest.mark.parametrize(("prompt", "negative", "graphs"), [(of(4), of(3), 1), (of(9), of(8), 2)])
def test_there_are_as_many_graphs_as_the_plan_counts(model, prompt, negative, graphs):
    pipeline = model("SD 1.5").load("openvino")
    pipeline.txt2img(prompt, negative_prompt=negative, seed=3, steps=1, width=WIDTH, height=WIDTH)
    assert len(pipeline.networks.unet.compiled) == graphs


def test_texts_of_one_length_in_other_numbers_of_rows_need_graphs_of_their_own(model):
    pipeline = model("SD 1.5").load()
    family, tokenizers = pipeline.model.family, pipeline.tokenizers
    two, three = (prompts_of_steps(text, "", 1, guided=True) for text in ("the fox", "the fox AND the snow"))
    assert context_shapes(family, tokenizers, [*two, *three]) == {(2, 77), (3, 77)}
    apart = prompts_of_steps(of(4), of(3), 1, guided=True)
    assert context_shapes(family, tokenizers, apart) == {(1, 308), (1, 231)}


def test_the_plan_counts_tokens_as_the_emphasis_that_is_asked_for_reads_them(model):
    """With "None" parentheses are text, which may fill more chunks."""
    pipeline = model("SD 1.5").load()
    prompt = " ".join(["(red)"] * 70)
    told = prompts_of_steps(prompt, "", 1, guided=True)
    lengths = {}
    for emphasis in ("Original", "None"):
        (encoded,) = encode_prompts(pipeline.networks, pipeline.tokenizers, [prompt], 1, emphasis)
        lengths[emphasis] = encoded.context.shape[1]
        family = pipeline.model.family
        assert context_shapes(family, pipeline.tokenizers, told, emphasis) == {(2, lengths[emphasis])}
    assert lengths["Original"] == 77 < lengths["None"]


def test_a_prompt_of_200_000_characters_is_refused_or_read(model):
    """What a request lets through must not take all memory in the encoder: the limit is named."""
    pipeline = model("SD 1.5").load()
    request = Request(prompt="! " * 100_000, seed=0, steps=1)
    with pytest.raises(InvalidRequest, match="100,000 tokens"):
        next(pipeline.stream(request))


def test_xl_without_zeros_for_no_text(model):
    """A folder may say that its model was not trained with zeros; then "" is encoded."""
    made, noise = model("SDXL"), starting_noise([5])
    pipeline = made.load()
    index = {**pipeline.checkpoint.model_index, "force_zeros_for_empty_prompt": False}
    checkpoint = replace(pipeline.checkpoint, model_index=MappingProxyType(index))
    other = replace(pipeline, model=replace(pipeline.model, checkpoint=checkpoint))
    theirs = draw_theirs(made.theirs, "Euler", noise, [5], prompt="a red fox", negative_prompt="")
    assert least_psnr(draw_ours(other, "Euler", noise, [5], "a red fox"), theirs) > 50
    assert least_psnr(draw_ours(pipeline, "Euler", noise, [5], "a red fox"), theirs) < 45
