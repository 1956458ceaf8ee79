"""Configurations: read as diffusers mean them, written so that they read them, refused by name."""

import json
from dataclasses import replace

import numpy as np
import pytest
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig

from pochade.configs.read_json import autoencoder_config, text_encoder_config, unet_config
from pochade.configs.write_json import describe_autoencoder, describe_text_encoder, describe_unet
from pochade.errors import InvalidCheckpoint
from pochade.models.embedding import embed_guidance
from tests.models.measure import text_json
from tests.reference import AUTOENCODER, SD15, TEXT_ENCODERS, UNETS, make_text_encoder, make_unet

UNET_JSON = json.loads(make_unet("SD 1.5").to_json_string())
AUTOENCODER_JSON = json.loads(AutoencoderKL(**AUTOENCODER).to_json_string())
TEXT_JSON = text_json(make_text_encoder("CLIP L"))

UNSUPPORTED = [
    (unet_config, UNET_JSON, key, value)
    for key, value in {
        "act_fn": "gelu",
        "addition_embed_type": "image",
        "attention_head_dim": [4, 4],
        "attention_type": "gated",
        "block_out_channels": [16, 32.5, 32],
        "center_input_sample": True,
        "class_embed_type": "timestep",
        "class_embeddings_concat": True,
        "conv_in_kernel": 5,
        "conv_out_kernel": 1,
        "cross_attention_dim": [24, 24, 24],
        "cross_attention_norm": "layer_norm",
        "down_block_types": ["CrossAttnDownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
        "downsample_padding": 0,
        "dual_cross_attention": True,
        "encoder_hid_dim": 32,
        "encoder_hid_dim_type": "text_proj",
        "in_channels": 0,
        "layers_per_block": [1, 2],
        "mid_block_only_cross_attention": True,
        "mid_block_scale_factor": 2,
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "norm_num_groups": True,
        "num_attention_heads": 4,
        "num_class_embeds": 10,
        "only_cross_attention": True,
        "resnet_out_scale_factor": 2.0,
        "resnet_skip_time_act": True,
        "resnet_time_scale_shift": "scale_shift",
        "sample_size": -1,
        "time_embedding_act_fn": "silu",
        "time_embedding_dim": 128,
        "time_embedding_type": "fourier",
        "timestep_post_act": "silu",
        "transformer_layers_per_block": [1, 1],
        "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    }.items()
]
UNSUPPORTED += [
    (autoencoder_config, AUTOENCODER_JSON, key, value)
    for key, value in {
        "act_fn": "relu",
        "block_out_channels": [],
        "down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D", "DownEncoderBlock2D"],
        "latent_channels": "4",
        "latents_mean": [0.0, 0.0, 0.0, 0.0],
        "latents_std": [1.0, 1.0, 1.0, 1.0],
        "up_block_types": ["UpDecoderBlock2D", "AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
    }.items()
]
UNSUPPORTED += [
    (text_encoder_config, TEXT_JSON, key, value)
    for key, value in {
        "architectures": ["T5EncoderModel"],
        "hidden_act": "gelu_new",
        "hidden_size": 25,  # not a multiple of the heads
        "num_hidden_layers": 0,
        "vocab_size": None,
    }.items()
]


@pytest.mark.parametrize(
    ("read", "json", "key", "value"),
    UNSUPPORTED,
    ids=[f"{read.__name__} {key}" for read, _, key, _ in UNSUPPORTED],
)
def test_what_is_not_supported_is_named_with_its_value(read, json, key, value):
    read(json)  # as it is, it can be read
    with pytest.raises(InvalidCheckpoint) as caught:
        read({**json, key: value})
    message = str(caught.value)
    assert "config.json" in message
    assert key in message
    odd = value[1] if key.endswith("block_types") else value[0] if key == "architectures" else value
    says_how_many = isinstance(value, list) and "entries" in message
    assert str(odd) in message or says_how_many


def test_channels_that_do_not_divide_into_groups():
    with pytest.raises(InvalidCheckpoint, match=r"16 channels.*5 groups"):
        unet_config({**UNET_JSON, "norm_num_groups": 5})
    with pytest.raises(InvalidCheckpoint, match=r"16 channels.*3 heads"):
        unet_config({**UNET_JSON, "attention_head_dim": 3})


def test_every_key_that_diffusers_write_for_a_unet_is_known():
    """One that this version of diffusers adds would otherwise pass unread. Each was looked at."""
    without_effect = {  # on inference, or on the models here
        "_class_name",
        "_diffusers_version",
        "addition_embed_type_num_heads",
        "dropout",
        "upcast_attention",
    }
    read = set()

    class Watched(dict):
        def get(self, key, default=None):
            read.add(key)
            return super().get(key, default)

    unet_config(Watched(json.loads(make_unet("SDXL").to_json_string())))
    assert set(UNET_JSON) - read == without_effect


def test_defaults_are_those_of_diffusers():
    """Old files say less; what they leave out means what it meant."""
    left_out = {"_class_name": "UNet2DConditionModel", "cross_attention_dim": 768}
    full = unet_config(dict(_settings_of(UNet2DConditionModel, left_out)))
    assert replace(unet_config(left_out), sample_size=full.sample_size) == full
    assert autoencoder_config({}) == autoencoder_config(dict(_settings_of(AutoencoderKL, {})))
    transformers = {**CLIPTextConfig().to_dict(), "architectures": ["CLIPTextModel"]}
    assert text_encoder_config({"intermediate_size": 2048, "hidden_size": 512, "num_attention_heads": 8}) == (
        text_encoder_config(transformers)
    )


def _settings_of(kind, given):
    """All settings with diffusers' defaults, without making the model."""
    import inspect

    parameters = inspect.signature(kind.__init__).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items() if name != "self"}
    return {**defaults, **given}


@pytest.mark.parametrize("family", [name for name in UNETS if name not in ("SSD-1B", "uneven")])
def test_a_unet_described_is_the_same(family):
    config = unet_config(dict(UNet2DConditionModel(**UNETS[family]).config))
    assert unet_config(json.loads(json.dumps(describe_unet(config)))) == config
    described = {
        name: tensor.shape
        for name, tensor in UNet2DConditionModel(**describe_unet(config)).state_dict().items()
    }
    given = UNet2DConditionModel(**UNETS[family]).state_dict()
    assert described == {name: tensor.shape for name, tensor in given.items()}


@pytest.mark.parametrize("kind", TEXT_ENCODERS)
def test_a_text_encoder_described_is_the_same(kind):
    config = text_encoder_config(text_json(make_text_encoder(kind)))
    assert text_encoder_config(json.loads(json.dumps(describe_text_encoder(config)))) == config


def test_an_autoencoder_described_is_the_same():
    config = autoencoder_config({**AUTOENCODER_JSON, "scaling_factor": 0.13025, "shift_factor": 0.5})
    assert config.shift == 0.5
    assert autoencoder_config(json.loads(json.dumps(describe_autoencoder(config, 32)))) == config


def test_the_guidance_scale_as_diffusers_embed_it():
    import torch

    config = unet_config({**SD15, "time_cond_proj_dim": 256})
    scales = [1.0, 4.5, 7.5, 14.0]
    embed = StableDiffusionPipeline.get_guidance_scale_embedding
    theirs = embed(None, torch.tensor(scales) - 1, embedding_dim=256).numpy()
    # sines of up to 13,000 radians: a rounding of the angle in 32 bits is 1e-3
    np.testing.assert_allclose(embed_guidance(config, scales), theirs, atol=2e-3)
