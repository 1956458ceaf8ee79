"""Overflow in f16 (above 65504): computed in a larger range, or reported as an error."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

import pochade
from pochade.configs.networks import TinyAutoencoderConfig
from pochade.configs.read_json import autoencoder_config
from pochade.errors import InvalidRequest
from pochade.families.stable_diffusion import SD1
from pochade.families.stable_diffusion_xl import XL
from pochade.generation.decoding import check_finite
from pochade.generation.upscale import upscale_with
from pochade.loading.auxiliary import load_upscaler
from pochade.request import Request
from tests.reference import psnr
from tests.upscalers import make_upscaler

OPTIONS = {"seed": 5, "width": 40, "height": 24, "steps": 3, "sampler": "Euler"}
PROMPT = "a red fox in the snow"
TOO_MUCH = 1e6
"""Times a weight whose output is normalised later: the same picture if the numbers fit, infinities in f16."""


def changed(saved: Path, into: Path, part: str, weights: tuple[str, ...]) -> Path:
    """A copy of a folder with some weights of one network multiplied."""
    shutil.copytree(saved, into)
    (file,) = (into / part).glob("*.safetensors")
    tensors = load_file(file)
    for name in weights:
        tensors[name] = (tensors[name] * TOO_MUCH).contiguous()
    save_file(tensors, file)
    return into


CODER = (
    "decoder.conv_in.weight",
    "decoder.conv_in.bias",
    "encoder.conv_in.weight",
    "encoder.conv_in.bias",
)


@pytest.mark.parametrize(
    ("said", "family", "expected"),
    [
        ({"force_upcast": True}, "SDXL", True),
        ({"force_upcast": False}, "SDXL", False),  # an autoencoder that was made for f16
        ({}, "SDXL", True),
        ({}, "SD 1.5", False),
        ({"force_upcast": True}, "SD 1.5", False),
    ],
)
def test_what_the_configuration_says_counts(said: dict[str, bool], family: str, expected: bool) -> None:
    needs_range = {"SDXL": XL, "SD 1.5": SD1}[family].needs_range
    assert needs_range(autoencoder_config(said)) is expected
    assert needs_range(TinyAutoencoderConfig()) is False


@pytest.mark.parametrize("precision", ["f16", "bf16", "f32"])
def test_only_f16_has_another_precision_for_the_autoencoder(model: Any, precision: str) -> None:
    networks = model("SDXL").load("torch", precision).networks
    wide = "f32" if precision == "f16" else precision
    assert networks.autoencoder.engine.precision == wide
    assert networks.unet.engine.precision == networks.text_encoder.engine.precision == precision
    assert networks.wide_autoencoder is None


def test_xl_in_f16_decodes_what_f16_does_not_hold(model: Any, tmp_path: Path) -> None:
    folder = changed(model("SDXL").folder, tmp_path / "xl", "vae", CODER)
    exact, narrow = (
        pochade.load(folder, device="cpu", engine="torch", precision=precision)
        for precision in ("f32", "f16")
    )
    one, other = (pipeline.txt2img(PROMPT, **OPTIONS).images[0] for pipeline in (exact, narrow))
    assert psnr(one, other) > 35
    assert np.asarray(one).std() > 10
    over = {key: OPTIONS[key] for key in ("seed", "width", "height", "sampler")} | {"steps": 6}
    one, other = (pipeline.img2img(PROMPT, image=one, **over).images[0] for pipeline in (exact, narrow))
    assert psnr(one, other) > 35


def test_an_autoencoder_that_overflows_unexpectedly_is_computed_again(model: Any, tmp_path: Path) -> None:
    folder = changed(model("SD 1.5").folder, tmp_path / "sd", "vae", CODER)
    exact, narrow = (
        pochade.load(folder, device="cpu", engine="torch", precision=precision)
        for precision in ("f32", "f16")
    )
    assert narrow.networks.autoencoder.engine.precision == "f16"
    assert not narrow.networks.overflowed
    one, other = (pipeline.txt2img(PROMPT, **OPTIONS).images[0] for pipeline in (exact, narrow))
    assert psnr(one, other) > 35
    assert narrow.networks.overflowed and narrow.networks.coder.engine.precision == "f32"
    small = narrow.decode(np.zeros((1, 4, 2, 2), np.float32))  # and from then on at once
    assert psnr(small[0], exact.decode(np.zeros((1, 4, 2, 2), np.float32))[0]) > 35
    shapes = [dict(inputs)["latent"][0] for _, inputs in narrow.networks.autoencoder.compiled]
    assert (1, 4, 2, 2) not in shapes


def test_an_autoencoder_that_fits_stays_in_f16(model: Any, tmp_path: Path) -> None:
    folder = changed(model("SD 1.5").folder, tmp_path / "sd", "vae", ())
    narrow = pochade.load(folder, device="cpu", engine="torch", precision="f16")
    narrow.txt2img(PROMPT, **OPTIONS)
    assert not narrow.networks.overflowed and not narrow.networks.wide_autoencoder.compiled


UNET = ("conv_in.weight", "conv_in.bias")


def test_a_unet_that_overflows_is_said_after_the_first_step(model: Any, tmp_path: Path) -> None:
    folder = changed(model("SD 2.1").folder, tmp_path / "sd", "unet", UNET)
    narrow = pochade.load(folder, device="cpu", engine="torch", precision="f16")
    stream = narrow.stream(Request(prompt=PROMPT, **{**OPTIONS, "steps": 50}))
    with pytest.raises(InvalidRequest, match=r"the UNet gave numbers .* in f16; .* --precision bf16 or f32"):
        next(stream)


def test_a_text_encoder_that_overflows_is_named(model: Any, tmp_path: Path) -> None:
    names = ("final_layer_norm.weight",)
    folder = changed(model("SD 1.5").folder, tmp_path / "sd", "text_encoder", names)
    narrow = pochade.load(folder, device="cpu", engine="torch", precision="f16")
    with pytest.raises(InvalidRequest, match=r"the text encoder gave numbers .* in f16"):
        narrow.txt2img(PROMPT, **OPTIONS)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_where_more_precision_does_not_help_it_is_not_advised(precision: str) -> None:
    with pytest.raises(InvalidRequest, match="another precision does not help") as raised:
        check_finite(np.array([np.nan], np.float32), "the UNet", precision)
    assert "--precision" not in str(raised.value)


def test_an_upscaler_that_overflows_is_said(tmp_path: Path) -> None:
    tensors = make_upscaler().state_dict()
    tensors["conv_last.bias"] += TOO_MUCH
    save_file(tensors, tmp_path / "x4.safetensors")
    narrow, exact = (
        load_upscaler(tmp_path / "x4.safetensors", device="cpu", engine="torch", precision=precision)
        for precision in ("f16", "f32")
    )
    picture = Image.new("RGB", (16, 16), "teal")
    assert upscale_with(exact, picture).getextrema() == ((255, 255),) * 3
    with pytest.raises(InvalidRequest, match="the upscaler gave numbers that are not finite in f16"):
        upscale_with(narrow, picture)
