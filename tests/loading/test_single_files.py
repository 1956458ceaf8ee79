"""Whole pictures from single files: diffusers draw with the model, we with the file that was made of it."""

import hashlib

import numpy as np
import pytest
import torch

import pochade
from pochade.errors import InvalidCheckpoint
from pochade.images.metadata import read_parameters
from pochade.request_options import Hires
from tests.pipeline.measure import (
    draw_ours,
    draw_theirs,
    inpainting_inputs,
    least_psnr,
    starting_noise,
)
from tests.reference import make_pipeline
from tests.single_files import ldm_state, only_average, save, without

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROMPT, NEGATIVE = "a photograph of a red fox in the snow!", "the 4k cat"
ALIKE = 60  # dB, in 32 bits


def ours_of(path, engine="torch", **options):
    pipeline = pochade.load(path, device="cpu", engine=engine, precision="f32", **options)
    noise = starting_noise([5])
    return draw_ours(pipeline, "Euler", noise, [5], PROMPT, negative_prompt=NEGATIVE, steps=4)


def theirs_of(pipeline):
    noise = starting_noise([5])
    more = inpainting_inputs(pipeline, noise) if "Inpaint" in type(pipeline).__name__ else {}
    texts = {"prompt": PROMPT, "negative_prompt": NEGATIVE}
    return draw_theirs(pipeline, "Euler", noise, [5], steps=4, **texts, **more)


@pytest.mark.parametrize(
    ("family", "engine"),
    [
        ("SD 1.5", "openvino"),
        ("SD 1.5", "torch"),
        ("SD 2.1", "torch"),
        ("SDXL", "torch"),
        ("SDXL", "openvino"),
        ("SSD-1B", "torch"),
        ("BK-SDM", "torch"),
        ("inpainting", "torch"),
    ],
)
def test_pictures(whole, family, engine):
    made = whole(family)
    assert least_psnr(ours_of(made.file(), engine), theirs_of(made.theirs)) > ALIKE


def test_editions_of_one_model_draw_one_picture(whole, tmp_path):
    made = whole("SD 1.5")
    expected = ours_of(made.file())
    np.testing.assert_array_equal(ours_of(made.file(only_average, name="ema")), expected)
    made.theirs.vae.save_pretrained(tmp_path / "vae")
    bare = made.file(without("first_stage_model."), name="bare")
    np.testing.assert_array_equal(ours_of(bare, vae=tmp_path / "vae"), expected)
    made.theirs.save_pretrained(tmp_path / "folder")
    np.testing.assert_array_equal(ours_of(tmp_path / "folder"), expected)


def test_another_prediction_is_another_picture(whole):
    path = whole("SD 1.5").file()
    assert least_psnr(ours_of(path), ours_of(path, prediction="v")) < 45


@pytest.mark.parametrize("family", ["SD 1.5", "SDXL"])
def test_a_model_that_keeps_to_no_rule_is_told_by_its_folder(family, tmp_path):
    """Other heads, groups and words than the family's: with `config` the file is read all the same."""
    theirs = make_pipeline(family, tmp_path)
    theirs.save_pretrained(tmp_path / "folder")
    path = save(ldm_state(theirs), tmp_path / "model.safetensors")
    for weights in (tmp_path / "folder").rglob("*.safetensors"):
        weights.unlink()
    assert least_psnr(ours_of(path, config=tmp_path / "folder"), theirs_of(theirs)) > ALIKE


def test_the_picture_names_the_file(whole):
    path = whole("SD 1.5").file(name="my model.safetensors")
    pipeline = pochade.load(path, device="cpu", engine="torch", precision="f32")
    (text,) = pipeline.txt2img("a", seed=1, steps=1, width=16, height=16).infotexts
    assert "Model: my model" in text and f"Model hash: {pipeline.model_hash}" in text
    assert len(pipeline.model_hash or "") == 10


def test_the_picture_names_the_autoencoder_that_was_given(whole, tmp_path):
    """As A1111 does; its own one has no name."""
    made = whole("SD 1.5")
    vae = save(made.theirs.vae.state_dict(), tmp_path / "good, or not.safetensors")
    options = {"steps": 1, "width": 64, "height": 64, "seed": 1}
    for path in (made.file(), made.saved()):
        plain = pochade.load(path, device="cpu", engine="torch")
        assert "VAE" not in plain.txt2img("a", **options).infotexts[0]
        pipeline = pochade.load(path, vae=vae, device="cpu", engine="torch")
        adapted = pipeline.with_adapters()
        larger = Hires(scale=1.5, steps=1)
        for result in (
            pipeline.txt2img("a", **options),
            adapted.txt2img("a", hires=larger, **options),
        ):
            values = read_parameters(result.infotexts[0]).values
            assert values["VAE"] == "good, or not.safetensors"
            assert values["VAE hash"] == hashlib.sha256(vae.read_bytes()).hexdigest()[:10]
    saved = pochade.load(made.file(), vae=made.saved(), device="cpu", engine="torch")
    assert read_parameters(saved.txt2img("a", **options).infotexts[0]).values["VAE"] == "saved"


def test_a_second_pass_by_a_file_without_an_autoencoder(whole):
    """The given one serves both models."""
    made = whole("SD 1.5")
    bare = made.file(without("first_stage_model."), name="bare.safetensors")
    path, options = made.file(), {"steps": 1, "width": 64, "height": 64, "seed": 1}
    pipeline = pochade.load(path, vae=made.saved(), device="cpu", engine="torch")
    by_bare, by_own = (
        pipeline.txt2img("a", hires=Hires(scale=1.5, model=model), **options).images[0]
        for model in (bare, None)
    )
    np.testing.assert_array_equal(np.asarray(by_bare), np.asarray(by_own))


def test_channels_that_nobody_fills(whole, tmp_path):
    """Models for depth maps and for instructions have inputs that we have nothing for."""
    state = ldm_state(whole("SD 1.5").theirs)
    name = "model.diffusion_model.input_blocks.0.0.weight"
    state[name] = torch.ones(32, 5, 3, 3)
    with pytest.raises(InvalidCheckpoint, match=r"its UNet takes 5 channels; 4 .* and 9 .* are supported"):
        pochade.load(save(state, tmp_path / "depth"), device="cpu", engine="torch")


# --- words that were added, and 8-bit weights -------------------------------------------------------------

TABLES = {
    "SD 1.5": ["cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"],
    "SD 2.1": ["cond_stage_model.model.token_embedding.weight"],
    "SDXL": [
        "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight",
        "conditioner.embedders.1.model.token_embedding.weight",
    ],
}


def with_rows(family, change):
    def edition(state):
        return {**state, **{name: change(state[name]) for name in TABLES[family]}}

    return edition


@pytest.mark.parametrize("family", TABLES)
def test_further_rows_of_the_table_are_added_words(whole, family):
    """Some trainers leave their new words in the table of tokens; the end token keeps its number."""
    made = whole(family)
    longer = with_rows(family, lambda table: torch.cat([table, torch.ones(3, table.shape[1])]))
    path = made.file(longer, name="longer")
    checkpoint = pochade.load(path, device="cpu", engine="torch").checkpoint
    assert checkpoint.text_encoder.config["vocab_size"] == 49411
    assert checkpoint.text_encoder.config["eos_token_id"] == 49407
    np.testing.assert_array_equal(ours_of(path), ours_of(made.file()))


@pytest.mark.parametrize("family", TABLES)
def test_a_table_that_lacks_words_is_refused_when_it_is_loaded(whole, family):
    path = whole(family).file(with_rows(family, lambda table: table[:49000]), name="shorter")
    with pytest.raises(
        InvalidCheckpoint, match=r"shorter': its text encoder has 49,000 words, .* up to 49,407"
    ):
        pochade.load(path, device="cpu", engine="torch")


@pytest.mark.parametrize("engine", ["torch", "openvino", "numpy"])
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_8_bit_floats_draw_on_every_engine(whole, engine, dtype):
    """As a file with the same numbers in 32 bits does."""
    made = whole("BK-SDM")

    def narrow(state):
        return {
            name: value.to(dtype) if name.startswith(("model.", "cond_stage")) else value
            for name, value in state.items()
        }

    def widened(state):
        return {name: value.float() for name, value in narrow(state).items()}

    ours = ours_of(made.file(narrow, name="narrow"), engine)
    assert least_psnr(ours, ours_of(made.file(widened, name="wide"))) > ALIKE
