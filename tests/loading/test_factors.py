"""LoRAs as inputs of graphs: the pictures of folded weights, and no graph for another file or strength."""

from pathlib import Path

import numpy as np
import pytest

import pochade
from pochade.adapters.view import RANKS, WeightedDeltas, factors
from pochade.checkpoints import safetensors
from pochade.errors import InvalidCheckpoint
from pochade.pipeline import Lora
from pochade.weights import FACTOR_DOWN, FACTOR_UP
from tests.adapters.test_view import base, strength
from tests.reference import psnr

OPTIONS = {"steps": 2, "seed": 5, "width": 64, "height": 64}


def write(path, tensors, seed, *, rank=4, size=0.3, among=".attn"):
    """Random factors for the layers whose names hold `among`, of the tensors of a network."""
    rng, layers = np.random.default_rng(seed), {}
    for name in tensors:
        shape = tensors[name].shape
        if among in name and len(shape) in (2, 4):
            layer = f"unet.{name.removesuffix('.weight')}"
            sides = (shape[0], rank), (rank, *shape[1:])
            ones = (1,) * (len(shape) - 2)
            layers[f"{layer}.lora_B.weight"] = size * rng.standard_normal((*sides[0], *ones), np.float32)
            layers[f"{layer}.lora_A.weight"] = size * rng.standard_normal(sides[1], np.float32)
    safetensors.write(path, layers)
    return path


@pytest.fixture(scope="module")
def starter():
    return pochade.load(device="cpu", precision="f32", engine="openvino")


@pytest.fixture(scope="module")
def loras(starter, tmp_path_factory):
    folder, tensors = tmp_path_factory.mktemp("loras"), starter.networks.unet.tensors
    return [write(folder / f"{i}.safetensors", tensors, i, rank=4 + i) for i in range(2)]


def pixels(pipeline):
    return np.asarray(pipeline.txt2img("a red apple", **OPTIONS).images[0], np.float32)


def test_the_pictures_are_those_of_folded_weights(starter, loras):
    folding = pochade.load(device="cpu", precision="f32", engine="torch")
    given = [Lora(loras[0], 0.7), Lora(loras[1], -0.3)]
    ours, theirs = (pixels(each.with_adapters(given)) for each in (starter, folding))
    assert psnr(ours, theirs) > 50
    assert psnr(ours, pixels(starter)) < 40, "they do something"


def test_another_strength_or_file_needs_no_other_graph(starter, loras):
    adapted = starter.with_adapters([Lora(loras[0], 0.7)])
    first, before = pixels(adapted), dict(starter.networks.unet.compiled)
    pictures = [first]
    for lora in (Lora(loras[0], 0.2), Lora(loras[1], 0.7), Lora(loras[1], 0.1)):
        pictures.append(pixels(starter.with_adapters([lora])))
    after = starter.networks.unet.compiled
    assert after == before and after == adapted.networks.unet.compiled
    assert len({each.tobytes() for each in pictures}) == 4
    np.testing.assert_array_equal(pixels(starter.with_adapters([Lora(loras[0], 0.7)])), first)


def test_each_text_is_that_of_its_adapter(starter, tmp_path):
    """The graph of the text encoder is shared, what was encoded is not."""
    width = starter.networks.text_encoder.config.width
    layer, rng = "lora_te_text_model_encoder_layers_0_self_attn_q_proj", np.random.default_rng(0)
    path = tmp_path / "words.safetensors"
    safetensors.write(
        path,
        {
            f"{layer}.lora_up.weight": rng.standard_normal((width, 2), np.float32),
            f"{layer}.lora_down.weight": rng.standard_normal((2, width), np.float32),
        },
    )
    texts = [
        starter.with_adapters([Lora(path, s)]).encode_prompt("a red apple") for s in (0.0, 0.5, 1.0, 0.5)
    ]
    assert len({each.tobytes() for each in texts}) == 3
    np.testing.assert_array_equal(texts[1], texts[3])


@pytest.mark.parametrize("speed", ["exact", "fast"])
def test_with_each_form_of_the_unet(starter, loras, speed):
    """Forms that compute a part of the UNet take the factors of that part."""
    folding = pochade.load(device="cpu", precision="f32", engine="torch")
    options = {**OPTIONS, "steps": 4, "speed": speed}
    ours, theirs = (
        np.asarray(each.with_adapters([loras[0]]).txt2img("a red apple", **options).images[0], np.float32)
        for each in (starter, folding)
    )
    assert psnr(ours, theirs) > 45


def test_they_may_be_folded_all_the_same(starter, loras):
    folding = pochade.load(device="cpu", precision="f32", engine="openvino", fold_adapters=True)
    adapted = folding.with_adapters([loras[0]])
    assert adapted.networks.unet.adapted and not adapted.networks.unet.factors
    assert psnr(pixels(adapted), pixels(starter.with_adapters([loras[0]]))) > 50
    asked = folding.with_library(loras[0].parent)._with_prompts("<lora:0:1>")
    assert asked.networks.unet.fingerprint == adapted.networks.unet.fingerprint
    assert asked.networks.unet.adapted


def test_what_is_not_of_low_rank_is_folded(starter, tmp_path):
    """Then the weights are another model's, and so is the graph."""
    path = write(tmp_path / "conv.safetensors", starter.networks.unet.tensors, 1, among="conv1")
    adapted = starter.with_adapters([path])
    assert adapted.networks.unet.adapted and not adapted.networks.unet.factors
    pixels(adapted)
    assert adapted.networks.unet.compiled != starter.networks.unet.compiled


def test_a_change_beyond_all_numbers_is_refused_by_name(starter, tmp_path):
    path = write(tmp_path / "huge.safetensors", starter.networks.unet.tensors, 1, size=1e25)
    with pytest.raises(InvalidCheckpoint, match=r"tensor '.*attn.*' .* NaN or infinite"):
        pixels(starter.with_adapters([path]))


def test_factors_stand_side_by_side():
    tensors, given = base(), [strength(1, 0.5), strength(2, -2.0), strength(3, name="b")]
    found = factors(tensors, given)
    assert found is not None and set(found) == {
        key + name for key in (FACTOR_DOWN, FACTOR_UP) for name in "ab"
    }
    for name, chosen in (("a", given[:2]), ("b", given[2:])):
        up, down = found[FACTOR_UP + name], found[FACTOR_DOWN + name]
        assert up.shape == (5, RANKS) and down.shape == (RANKS, 4)
        expected = sum(each.weight * each.deltas[name].matrix() for each in chosen)
        np.testing.assert_allclose(up @ down, expected, rtol=1e-5, atol=1e-6)


def test_tables_take_no_factors(tmp_path: Path):
    name = "embeddings.token_embedding.weight"
    given = [WeightedDeltas(strength(1, name=name).deltas, 1.0, "x")]
    assert factors({name: np.ones((5, 4), np.float32)}, given) is None
