"""A configuration written as JSON and read back is itself."""

import pytest

from pochade.configs.networks import AutoencoderConfig, TextEncoderConfig, UNetConfig
from pochade.configs.read_json import autoencoder_config, text_encoder_config, unet_config
from pochade.configs.write_json import describe_autoencoder, describe_text_encoder, describe_unet

SD15 = UNetConfig(
    down_depths=((1, 1), (1, 1), (1, 1), (0, 0)),
    mid_depth=1,
    up_depths=((0,) * 3, (1,) * 3, (1,) * 3, (1,) * 3),
)
XL = UNetConfig(
    widths=(320, 640, 1280),
    down_depths=((0, 0), (2, 2), (10, 10)),
    mid_depth=10,
    up_depths=((10,) * 3, (2,) * 3, (0,) * 3),
    heads=(5, 10, 20),
    context_width=2048,
    linear_projection=True,
    added_width=2816,
    added_time_width=256,
    sample_size=128,
)
WITHOUT_MIDDLE = UNetConfig(
    widths=(32, 64),
    down_depths=((1,), (1,)),
    mid_depth=None,
    up_depths=((1, 1), (1, 1)),
    heads=(2, 2),
    groups=8,
    guidance_width=16,
)


@pytest.mark.parametrize("config", [SD15, XL, WITHOUT_MIDDLE], ids=["1.5", "xl", "no middle"])
def test_unet(config: UNetConfig) -> None:
    assert unet_config(describe_unet(config)) == config


@pytest.mark.parametrize("projection", [None, 1280])
def test_text_encoder(projection: int | None) -> None:
    config = TextEncoderConfig(
        width=1280, heads=20, layers=32, activation="gelu", projection_width=projection
    )
    assert text_encoder_config(describe_text_encoder(config)) == config


@pytest.mark.parametrize("upcast", [True, False])
def test_autoencoder(upcast: bool) -> None:
    config = AutoencoderConfig(
        widths=(8, 16, 32),
        layers=1,
        groups=4,
        scale=0.13025,
        shift=0.1,
        attention=False,
        force_upcast=upcast,
    )
    assert autoencoder_config(describe_autoencoder(config, 32)) == config
