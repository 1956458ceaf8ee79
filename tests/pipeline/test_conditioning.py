"""Prompts as the UNet sees them, against transformers: long, empty, for two encoders, with layers skipped."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch

from pochade.errors import InvalidRequest
from pochade.request import Request
from tests.models.measure import text_reference
from tests.pipeline.measure import draw_ours, draw_theirs, least_psnr, starting_noise
from tests.reference import relative_error

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

WORDS = ["red", "fox", "the", "snow"]  # one token each
LONG = " ".join(WORDS[i * i % 4] for i in range(100))  # 75 and 25 tokens
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


@pytest.mark.parametrize("clip_skip", [1, 2])
def test_clip_skip_of_two_encoders(model, clip_skip):
    made = model("SDXL")
    expected, expected_pooled = encoded_by_xl(made.theirs, "a red fox", skip=clip_skip)
    context, pooled = made.load().encode_prompt("a red fox", clip_skip=clip_skip)
    assert relative_error(context, expected) < 1e-4
    assert relative_error(pooled, expected_pooled) < 1e-4


@pytest.mark.parametrize(("family", "clip_skip"), [("SD 1.5", 4), ("SDXL", 3)])
def test_more_layers_skipped_than_there_are(model, family, clip_skip):
    with pytest.raises(InvalidRequest, match=f"clip_skip is {clip_skip}.*3 layers"):
        model(family).load().encode_prompt("a red fox", clip_skip=clip_skip)


def test_the_end_token_of_configurations_of_before_2023(model):
    """eos_token_id 2 stood in them, and still the vector at the real end token was meant."""
    pipeline = model("SDXL").load()
    networks = pipeline.networks
    old = replace(networks.text_encoder_2, config=replace(networks.text_encoder_2.config, end_token=2))
    dated = replace(pipeline, model=replace(pipeline.model, networks=replace(networks, text_encoder_2=old)))
    np.testing.assert_array_equal(dated.encode_prompt("a red fox")[1], pipeline.encode_prompt("a red fox")[1])


@pytest.mark.parametrize(
    ("prompt", "negative"), [(LONG, "the fox"), ("the fox", LONG), (LONG, LONG[::-1]), (LONG, "")]
)
def test_pictures_of_prompts_of_different_lengths(model, prompt, negative):
    """Both get as many chunks as the longer one needs; diffusers are fed the embeddings of the parts."""
    made, noise = model("SD 1.5"), starting_noise([5])
    pipeline = made.load()
    ids = [pipeline.tokenizers[0].encode(text) for text in (prompt, negative)]
    chunks = max(-(-len(each) // 75) for each in ids)
    embeddings = [_in_chunks(made.theirs, each, chunks) for each in ids]
    ours = draw_ours(pipeline, "Euler", noise, [5], prompt, negative_prompt=negative)
    theirs = draw_theirs(
        made.theirs, "Euler", noise, [5], prompt_embeds=embeddings[0], negative_prompt_embeds=embeddings[1]
    )
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
