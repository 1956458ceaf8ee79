"""Prompts of several chunks: one graph of the UNet for all of them, where the engine can."""

from dataclasses import replace

import numpy as np
import pytest

import pochade
from pochade.loading import network as loading
from pochade.loading.compiled_graphs import CompiledGraphs
from tests.reference import psnr

OPTIONS = {"steps": 2, "seed": 5, "width": 64, "height": 64}
PROMPTS = ["a red apple", "a red apple BREAK on a table", "a red apple BREAK on a table BREAK at night"]


def drawn(pipeline, prompt):
    return np.asarray(pipeline.txt2img(prompt, **OPTIONS).images[0], np.float32)


def fresh(pipeline):
    """The pipeline with no graphs in memory."""
    networks = pipeline.networks
    networks = replace(networks, unet=replace(networks.unet, graphs=CompiledGraphs()))
    return replace(pipeline, model=replace(pipeline.model, networks=networks))


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_one_more_chunk_needs_no_graph(precision):
    ours = fresh(pochade.load(device="cpu", precision=precision, engine="openvino"))
    theirs = pochade.load(device="cpu", precision="f32", engine="torch")
    found = [drawn(ours, prompt) for prompt in PROMPTS]
    assert len(ours.networks.unet.compiled) == 1
    for picture, prompt in zip(found, PROMPTS, strict=True):
        assert psnr(picture, drawn(theirs, prompt)) > (50 if precision == "f32" else 20)
    assert len({picture.tobytes() for picture in found}) == 3
    np.testing.assert_array_equal(drawn(ours, PROMPTS[0]), found[0])


def test_a_longer_text_than_the_bound_has_a_graph_of_its_own(monkeypatch):
    ours = fresh(pochade.load(device="cpu", precision="f32", engine="openvino"))
    chunk = ours.tokenizers[0].max_length
    monkeypatch.setattr(loading, "TOKENS", chunk)
    theirs = pochade.load(device="cpu", precision="f32", engine="torch")
    for prompt in PROMPTS:
        assert psnr(drawn(ours, prompt), drawn(theirs, prompt)) > 50
    tokens = [dict(form[1])["context"][0][1] for form in ours.networks.unet.compiled]
    assert sorted(tokens) == [-chunk, 2 * chunk, 3 * chunk]
