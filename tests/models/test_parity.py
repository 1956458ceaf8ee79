"""Tiny random models in diffusers' and transformers' own classes: ours return the same numbers."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from pochade.configs.read_json import autoencoder_config, text_encoder_config, unet_config
from pochade.engines.torch import TorchEngine
from pochade.loading.parameter_shapes import autoencoder_shapes, text_encoder_shapes, unet_shapes
from tests.models.measure import (
    decode_error,
    encode_error,
    text_errors,
    text_json,
    unet_error,
    unet_output,
    unet_reference,
)
from tests.reference import (
    TEXT_ENCODERS,
    UNETS,
    make_autoencoder,
    make_text_encoder,
    make_unet,
    relative_error,
    stored,
    unet_inputs,
)

AUTOENCODERS: dict[str, dict[str, Any]] = {
    "SD": {},
    "without quant convolutions": {"use_quant_conv": False, "use_post_quant_conv": False},
    "without attention, 16 channels": {"mid_block_add_attention": False, "latent_channels": 16},
}


@cache
def unet_of(family):
    return make_unet(family)


@cache
def autoencoder_of(kind):
    return make_autoencoder(**AUTOENCODERS[kind])


def shapes_of(tensors):
    return {name: tensor.shape for name, tensor in tensors.items()}


# --- UNet -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", UNETS)
def test_unet(engine, family):
    """At 13 x 9 latent pixels, which halve to no whole numbers, and two rows of different timesteps."""
    ours, bound = engine
    unet = unet_of(family)
    assert unet_error(ours, unet, unet_inputs(unet.config, (2, 13, 9))) < bound


@pytest.mark.parametrize("family", UNETS)
def test_unet_asks_for_the_tensors_that_diffusers_save(family):
    unet = unet_of(family)
    assert unet_shapes(unet_config(dict(unet.config))) == shapes_of(stored(unet))


@pytest.mark.parametrize("family", ["SD 2.1", "SDXL"])
@pytest.mark.parametrize("size", [(8, 8), (1, 5), (7, 16)])
def test_unet_at_other_sizes_and_lengths_of_text(family, size):
    unet = unet_of(family)
    assert unet_error(TorchEngine(), unet, unet_inputs(unet.config, (1, *size), tokens=154)) < 1e-4


@pytest.mark.parametrize("family", UNETS)
def test_unet_of_small_numbers(family):
    """Where a normalisation's epsilon is a good part of the variance; elsewhere none would be missed."""
    unet = make_unet(family, gain=0.01)
    assert unet_error(TorchEngine(), unet, unet_inputs(unet.config, (1, 8, 8), tokens=5)) < 1e-4


@pytest.mark.parametrize("family", UNETS)
def test_every_input_of_the_reference_unet_matters(family):
    """Or the tests above would not notice one that is left out. 1e-2 is a hundred times their bound."""
    unet = unet_of(family)
    inputs = unet_inputs(unet.config)
    expected, others = unet_reference(unet, inputs), unet_inputs(unet.config, seed=1)
    for name, other in others.items():
        parts = other.items() if isinstance(other, dict) else [(None, other)]
        for part, value in parts:
            changed = value if part is None else {**inputs[name], part: value}
            assert relative_error(unet_reference(unet, {**inputs, name: changed}), expected) > 1e-2, (
                name,
                part,
            )


def test_every_tensor_of_the_reference_unet_matters():
    unet = unet_of("SDXL")
    json, tensors, inputs = dict(unet.config), stored(unet), unet_inputs(unet.config, (1, 8, 8), tokens=5)
    before = unet_output(TorchEngine(), json, tensors, inputs)
    for name, tensor in tensors.items():
        after = unet_output(TorchEngine(), json, {**tensors, name: tensor[::-1].copy()}, inputs)
        assert relative_error(after, before) > 2e-4, name  # twice the bound above


# --- text encoders ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TEXT_ENCODERS)
@pytest.mark.parametrize(("skip", "final_norm"), [(0, True), (1, True), (1, False), (2, False)])
def test_text_encoder(engine, kind, skip, final_norm):
    """The conditioning of SD (0, or clip skip, with the norm), of XL (1 without), and the pooled vector."""
    ours, bound = engine
    errors = text_errors(ours, make_text_encoder(kind), skip=skip, final_norm=final_norm)
    assert max(errors) < bound


@pytest.mark.parametrize("kind", TEXT_ENCODERS)
def test_text_encoder_of_fewer_tokens(kind):
    assert max(text_errors(TorchEngine(), make_text_encoder(kind), length=20)) < 1e-4


@pytest.mark.parametrize("kind", TEXT_ENCODERS)
def test_text_encoder_of_small_numbers(kind):
    assert max(text_errors(TorchEngine(), make_text_encoder(kind, gain=0.01))) < 1e-4


@pytest.mark.parametrize("kind", TEXT_ENCODERS)
def test_text_encoder_asks_for_the_tensors_that_transformers_save(kind):
    model = make_text_encoder(kind)
    assert text_encoder_shapes(text_encoder_config(text_json(model))) == shapes_of(stored(model))


# --- autoencoder ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_encode(engine, kind):
    ours, bound = engine
    picture = np.random.default_rng(0).uniform(-1, 1, (2, 3, 36, 20)).astype(np.float32)
    assert encode_error(ours, autoencoder_of(kind), picture) < bound


@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_decode(engine, kind):
    ours, bound = engine
    model = autoencoder_of(kind)
    latent = np.random.default_rng(0).standard_normal((2, model.config.latent_channels, 9, 5), np.float32)
    assert decode_error(ours, model, latent) < bound


def test_autoencoder_of_small_numbers():
    model, rng = make_autoencoder(gain=0.01), np.random.default_rng(0)
    assert encode_error(TorchEngine(), model, rng.standard_normal((1, 3, 16, 16), np.float32)) < 1e-4
    assert decode_error(TorchEngine(), model, rng.standard_normal((1, 4, 4, 4), np.float32)) < 1e-4


@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_autoencoder_asks_for_the_tensors_that_diffusers_save(kind):
    model = autoencoder_of(kind)
    assert autoencoder_shapes(autoencoder_config(dict(model.config))) == shapes_of(stored(model))
