"""The tiny autoencoder against diffusers' own."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from pochade.configs.networks import TinyAutoencoderConfig
from pochade.configs.read_json import any_autoencoder_config, tiny_autoencoder_config
from pochade.errors import InvalidCheckpoint
from pochade.loading.parameter_shapes import autoencoder_shapes
from pochade.models.tiny_autoencoder import decode_tiny, encode_tiny
from tests.reference import evaluate, make_tiny_autoencoder, relative_error, stored

KINDS = {
    "TAESD": {},
    "16 channels": {"latent_channels": 16},
    "two sizes": {
        name: value[:2]
        for name, value in {
            "encoder_block_out_channels": (8, 8),
            "decoder_block_out_channels": (8, 8),
            "num_encoder_blocks": (1, 1),
            "num_decoder_blocks": (1, 1),
        }.items()
    },
}


@cache
def model_of(kind):
    return make_tiny_autoencoder(gain=1.4, **KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_encode(engine, kind):
    ours, bound = engine
    model = model_of(kind)
    picture = np.random.default_rng(0).uniform(-1, 1, (2, 3, 36, 20)).astype(np.float32)
    with torch.inference_mode():
        expected = model.encode(torch.from_numpy(picture)).latents.numpy()
    config = tiny_autoencoder_config(dict(model.config))
    assert (
        relative_error(evaluate(ours, encode_tiny, config, stored(model), picture=picture), expected) < bound
    )


@pytest.mark.parametrize("kind", KINDS)
def test_decode(engine, kind):
    """Latents of deviation 2, so that some are squeezed."""
    ours, bound = engine
    model = model_of(kind)
    latent = 2 * np.random.default_rng(0).standard_normal((2, model.config.latent_channels, 9, 5), np.float32)
    with torch.inference_mode():
        expected = model.decode(torch.from_numpy(latent)).sample.numpy()
    config = tiny_autoencoder_config(dict(model.config))
    actual = evaluate(ours, decode_tiny, config, stored(model), latent=latent)
    assert relative_error(actual, expected) < bound


@pytest.mark.parametrize("kind", KINDS)
def test_it_asks_for_the_tensors_that_diffusers_save(kind):
    model = model_of(kind)
    shapes = autoencoder_shapes(any_autoencoder_config({**model.config, "_class_name": "AutoencoderTiny"}))
    assert shapes == {name: tensor.shape for name, tensor in stored(model).items()}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("act_fn", "mish"),
        ("upsampling_scaling_factor", 4),
        ("encoder_block_out_channels", [16, 32, 16]),
        ("num_decoder_blocks", [1, 1]),
    ],
)
def test_a_configuration_that_is_not_supported_is_named(key, value):
    named = "decoder_block_out_channels|encoder_block_out_channels" if key == "num_decoder_blocks" else key
    with pytest.raises(InvalidCheckpoint, match=rf"tiny autoencoder's config\.json: ({named})"):
        tiny_autoencoder_config({**dict(model_of("TAESD").config), key: value})


def test_the_published_decoder_has_so_many_parameters():
    shapes = autoencoder_shapes(TinyAutoencoderConfig())
    decoder = [math.prod(shape) for name, shape in shapes.items() if name.startswith("decoder")]
    assert sum(decoder) == 1_222_531
