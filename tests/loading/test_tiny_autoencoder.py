"""TAESD in place of a model's own autoencoder: every layout of its files, and whole pictures."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pochade.checkpoints.detect import SD1
from pochade.checkpoints.read import read_checkpoint
from pochade.checkpoints.single_file_names import single_file_tensors
from pochade.errors import InvalidCheckpoint
from tests.pipeline.measure import draw_ours, draw_theirs, least_psnr, starting_noise
from tests.reference import FACTOR, make_tiny_autoencoder, relative_error

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROMPT, NEGATIVE = "a red fox in the snow", "the 4k cat"


@pytest.fixture(scope="module")
def tiny():
    made = make_tiny_autoencoder(seed=3, gain=1.4)
    with torch.no_grad():  # most pixels inside 0..1
        made.decoder.layers[-1].weight *= 0.05
        made.decoder.layers[-1].bias += 0.5
    return made


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny")
    tiny.save_pretrained(path)
    return path


def halves(tiny, folder, name="taesd"):
    """The two files of its author. The decoder begins with the squeezing, which counts there."""
    for coder in ("encoder", "decoder"):
        state = getattr(tiny, coder).state_dict()
        named = {}
        for key, value in state.items():
            _, number, rest = key.split(".", 2)
            named[f"{int(number) + int(coder == 'decoder')}.{rest}"] = value.contiguous()
        save_file(named, folder / f"{name}_{coder}.safetensors")
    return folder


@pytest.mark.parametrize("engine", ["numpy", "openvino", "torch"])
@pytest.mark.parametrize("family", ["SD 1.5", "SDXL"])
def test_a_picture_as_diffusers(model, tiny, folder, family, engine):
    made, noise = model(family), starting_noise((5,))
    ours = draw_ours(
        made.load(engine, vae=folder), "Euler", noise, (5,), PROMPT, negative_prompt=NEGATIVE, steps=4
    )
    own, made.theirs.vae = made.theirs.vae, tiny
    try:
        theirs = draw_theirs(
            made.theirs, "Euler", noise, (5,), prompt=[PROMPT], negative_prompt=[NEGATIVE], steps=4
        )
    finally:
        made.theirs.vae = own
    assert least_psnr(ours, theirs) > 50


def test_every_layout_says_the_same(model, tiny, folder, tmp_path):
    save_file(tiny.state_dict(), tmp_path / "tiny.safetensors")
    two = halves(tiny, tmp_path)
    halves(make_tiny_autoencoder(seed=9), tmp_path, "taesdxl")
    made = model("SD 1.5")
    image = Image.effect_noise((8 * FACTOR, 8 * FACTOR), 80).convert("RGB")
    expected = made.load(vae=folder).encode_image(image)
    for vae in (tmp_path / "tiny.safetensors", two, two / "taesd_encoder.safetensors"):
        np.testing.assert_array_equal(made.load(vae=vae).encode_image(image), expected)
    other = made.load(vae=two / "taesdxl_decoder.safetensors").encode_image(image)
    assert relative_error(other, expected) > 0.1


def test_over_a_picture_and_the_preview(model, folder):
    pipeline = model("SD 1.5").load(vae=folder)
    image = Image.effect_noise((8 * FACTOR, 8 * FACTOR), 80).convert("RGB")
    result = pipeline.img2img(PROMPT, image=image, steps=3, seed=1, tiling=True)
    assert result.images[0].size == image.size


def test_a_single_file_has_no_place_for_it(model, folder):
    checkpoint = read_checkpoint(model("SD 1.5").folder, vae=folder)
    with pytest.raises(InvalidCheckpoint, match="has a tiny autoencoder"):
        single_file_tensors(checkpoint, SD1)


def test_half_of_it_is_not_enough(model, tiny, tmp_path):
    (halves(tiny, tmp_path) / "taesd_decoder.safetensors").unlink()
    with pytest.raises(InvalidCheckpoint, match=r"its other half, 'taesd_decoder\.safetensors', must be in"):
        model("SD 1.5").load(vae=tmp_path / "taesd_encoder.safetensors")


def test_a_layer_that_is_missing_is_named(model, tiny, tmp_path):
    state = dict(tiny.state_dict())
    state.pop("decoder.layers.3.conv.2.weight")
    save_file(state, tmp_path / "tiny.safetensors")
    with pytest.raises(InvalidCheckpoint, match=r"1 missing: 'decoder\.layers\.3\.conv\.2\.weight'"):
        model("SD 1.5").load(vae=tmp_path / "tiny.safetensors")
