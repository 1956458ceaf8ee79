"""Texts that were encoded lately: not encoded again, never confused, and few."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pochade
from pochade.checkpoints import safetensors
from pochade.loading.text_cache import EncodedTexts

LAYER = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"


@pytest.fixture(scope="module")
def starter():
    return pochade.load(device="cpu", precision="f32")


@pytest.fixture
def counted(starter, monkeypatch):
    """The starter with no texts yet, and a list of what its text encoders were run on."""
    runs = []
    network = type(starter.networks.text_encoder)
    run = network.run

    def counting(self, function, **arrays):
        if "ids" in arrays:
            runs.append(arrays["ids"])
        return run(self, function, **arrays)

    monkeypatch.setattr(network, "run", counting)
    networks = replace(starter.networks, texts=EncodedTexts())
    return replace(starter, model=replace(starter.model, networks=networks)), runs


def test_the_next_job_with_the_same_prompt_encodes_nothing(counted):
    pipeline, runs = counted
    options = {"steps": 1, "seed": 3, "negative_prompt": "blurry"}
    first = pipeline.txt2img("a red apple", **options)
    assert len(runs) == 2
    second = pipeline.txt2img("a red apple", **options)
    assert len(runs) == 2
    np.testing.assert_array_equal(np.asarray(first.images[0]), np.asarray(second.images[0]))
    pipeline.txt2img("a red apple on a table", **options)
    assert len(runs) == 3


def test_only_what_is_new_is_encoded(counted):
    """Emphasis is applied after the encoder, and a longer prompt shares the chunks that it has in common."""
    pipeline, runs = counted
    plain = pipeline.encode_prompt("a red apple")
    strong = pipeline.encode_prompt("a (red:1.4) apple")
    assert len(runs) == 1 and not np.array_equal(plain, strong)
    np.testing.assert_array_equal(pipeline.encode_prompt("a red apple"), plain)
    longer = pipeline.encode_prompt("a red apple BREAK a blue bowl")
    assert len(runs) == 2 and longer.shape[1] == 2 * plain.shape[1]
    np.testing.assert_array_equal(longer[:, : plain.shape[1]], plain)


def test_another_way_of_encoding_is_another_text(counted, tmp_path: Path):
    pipeline, runs = counted
    plain = pipeline.encode_prompt("a red apple")
    skipped = pipeline.encode_prompt("a red apple", clip_skip=2)
    assert len(runs) == 2 and not np.array_equal(plain, skipped)
    width = pipeline.networks.text_encoder.config.width
    path, numbers = tmp_path / "words.safetensors", np.random.default_rng(0)
    shapes = {"lora_up": (width, 2), "lora_down": (2, width)}
    safetensors.write(
        path, {f"{LAYER}.{name}.weight": numbers.standard_normal(s, np.float32) for name, s in shapes.items()}
    )
    adapted = pipeline.with_adapters([path])
    changed = adapted.encode_prompt("a red apple")
    assert len(runs) == 3 and not np.array_equal(plain, changed)
    np.testing.assert_array_equal(pipeline.encode_prompt("a red apple"), plain)
    np.testing.assert_array_equal(pipeline.with_adapters([path]).encode_prompt("a red apple"), changed)
    assert len(runs) == 3


def test_the_least_recently_used_go_first():
    texts, made = EncodedTexts(budget_bytes=3 * 12), []

    def encode(name):
        def now():
            made.append(name)
            return np.zeros((1, 1, 2), np.float32), np.zeros((1, 1), np.float32)

        return texts.of(name, now)

    for name in "abcadab":
        encode(name)
    assert "".join(made) == "abcdb" and texts.held_bytes == 36
    assert encode("a") is encode("a")
    with pytest.raises(ValueError, match="read-only"):
        encode("a")[0][:] = 1


def test_one_that_is_larger_than_all_of_them_may_be_is_not_kept():
    texts = EncodedTexts(budget_bytes=10)
    texts.of("a", lambda: (np.zeros((1, 1, 2), np.float32), np.zeros((1, 1), np.float32)))
    assert texts.held_bytes == 0
