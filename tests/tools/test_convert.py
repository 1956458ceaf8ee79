"""Conversion between folder and file: equal tensors, and equal pictures in diffusers."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline

from pochade.checkpoints.read import read_checkpoint
from pochade.checkpoints.safetensors import read
from pochade.errors import InvalidCheckpoint, InvalidRequest, OutputError
from pochade.models.read_config import unet_config
from pochade.tools.convert import convert
from pochade.tools.inspect import facts, verify
from tests.checkpoints.test_single_file import assert_same
from tests.loading.test_single_files import ours_of, theirs_of
from tests.pipeline.measure import least_psnr
from tests.reference import make_pipeline
from tests.single_files import ldm_state, save

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CLASSES = {
    "SD 1.5": StableDiffusionPipeline,
    "inpainting": StableDiffusionInpaintPipeline,
    "SD 2.1": StableDiffusionPipeline,
    "SDXL": StableDiffusionXLPipeline,
}


def converted(source: Path, target: Path, precision: str | None = None, **options: Any) -> Path:
    steps = list(convert(read_checkpoint(source, **options), target, precision))
    assert steps[-1].done == steps[-1].total
    assert all(a.done <= b.done for a, b in pairwise(steps))
    return target


@pytest.mark.parametrize("family", ["SD 1.5", "inpainting", "LCM", "BK-SDM", "SD 2.1", "SSD-1B", "refiner"])
def test_there_and_back(whole, family, tmp_path):
    made = whole(family)
    file = converted(made.saved(), tmp_path / "model.safetensors")
    assert_same(read_checkpoint(file), made.theirs)
    again = converted(file, tmp_path / "folder")
    assert_same(read_checkpoint(again), made.theirs)
    prediction = made.theirs.scheduler.config.prediction_type
    for path in (file, again):
        assert read_checkpoint(path).scheduler["prediction_type"] == prediction
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "model.safetensors"]


@pytest.mark.parametrize("family", ["SD 1.5", "SD 2.1", "SDXL", "refiner", "inpainting", "LCM"])
def test_the_file_has_the_names_that_the_helper_gives(whole, family, tmp_path):
    """Every tensor of the independent writer is there with the same numbers, save what training left."""
    made = whole(family)
    ours = read(converted(made.saved(), tmp_path / "model.safetensors"))
    theirs = ldm_state(made.theirs)
    left = ("betas", "alphas_cumprod", "logit_scale", "position_ids", "v_pred", "text_projection")
    kept = {name for name in theirs if not name.endswith(left) or name.startswith("conditioner")}
    kept = {name for name in kept if not name.endswith(("logit_scale", "position_ids"))}
    assert {name for name in ours if name != "v_pred"} == kept
    first = made.theirs.text_encoder
    layers = -1 if first is None else first.config.num_hidden_layers
    for name in kept:
        if f"cond_stage_model.model.transformer.resblocks.{layers}." not in name:  # nobody looks at it
            np.testing.assert_array_equal(ours[name], theirs[name].numpy(), err_msg=name)


@pytest.mark.parametrize("family", CLASSES)
def test_diffusers_read_what_is_written(whole, family, tmp_path):
    made, kind = whole(family), CLASSES[family]
    expected = theirs_of(made.theirs)
    file = converted(made.saved(), tmp_path / "model.safetensors")
    single = kind.from_single_file(
        str(file), config=str(made.saved()), local_files_only=True, safety_checker=None
    )
    folder = kind.from_pretrained(converted(file, tmp_path / "folder"))
    for pipeline in (single, folder):
        pipeline.set_progress_bar_config(disable=True)
        pipeline.scheduler = made.theirs.scheduler if pipeline is single else pipeline.scheduler
        assert pipeline.scheduler.config.prediction_type == made.theirs.scheduler.config.prediction_type
        assert least_psnr(theirs_of(pipeline), expected) > 70  # a matrix that lies turned rounds otherwise


@pytest.mark.parametrize(
    ("precision", "dtype"), [("f16", np.float16), ("bf16", ml_dtypes.bfloat16), ("f32", np.float32)]
)
def test_precisions(whole, precision, dtype, tmp_path):
    made = whole("SD 1.5")
    source = made.file(dtype=torch.bfloat16 if precision == "f32" else torch.float32)
    for target in (tmp_path / "model.safetensors", tmp_path / "folder"):
        checkpoint = read_checkpoint(converted(source, target, precision))
        types = {tensor.dtype for tensor in checkpoint.unet.tensors.values()}
        assert types == {np.dtype(dtype)}
        exact = read_checkpoint(source).unet.tensors["conv_in.weight"].astype(dtype)
        np.testing.assert_array_equal(checkpoint.unet.tensors["conv_in.weight"], exact)
    assert least_psnr(ours_of(tmp_path / "folder"), theirs_of(made.theirs)) > 25


def test_numbers_that_f16_cannot_hold(whole, tmp_path):
    state = ldm_state(whole("SD 1.5").theirs)
    state["model.diffusion_model.out.2.bias"][1] = 1e5
    source = save(state, tmp_path / "large.safetensors")
    for target in (tmp_path / "a.safetensors", tmp_path / "a"):
        with pytest.raises(
            OutputError, match=r"cannot hold tensor '\S*(out\.2|conv_out)\.bias' in float16: 1 of"
        ):
            converted(source, target, "f16")
        converted(source, target, "bf16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.safetensors", "large.safetensors"]


def test_a_vocabulary_of_its_own_needs_a_folder(tmp_path):
    theirs = make_pipeline("SD 1.5", tmp_path)
    theirs.save_pretrained(tmp_path / "folder")
    with pytest.raises(OutputError, match=r"has a vocabulary of its own, which a single file cannot hold"):
        converted(tmp_path / "folder", tmp_path / "model.safetensors")
    again = converted(tmp_path / "folder", tmp_path / "copy")
    np.testing.assert_array_equal(ours_of(again), ours_of(tmp_path / "folder"))


def test_another_schedule_and_other_heads_travel_along(whole, tmp_path):
    made = whole("SD 1.5")
    config = {
        "unet": {"attention_head_dim": 4, "norm_num_groups": 16},
        "scheduler": {"beta_end": 0.02, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
        "vae": {"scaling_factor": 0.5},
        "text_encoder": {"layer_norm_eps": 1e-3},
    }
    source = made.file()
    target = converted(source, tmp_path / "m.safetensors", config=config)
    assert {"v_pred", "ztsnr"} <= set(read(target))
    read_again = read_checkpoint(target)
    assert unet_config(read_again.unet.config) == unet_config(
        read_checkpoint(source, config=config).unet.config
    )
    assert read_again.scheduler["beta_end"] == 0.02
    np.testing.assert_array_equal(ours_of(target), ours_of(source, config=config))
    assert least_psnr(ours_of(target), ours_of(source)) < 45


def test_targets_that_are_taken_or_cannot_be_written(whole, tmp_path):
    source = whole("SD 1.5").file()
    for name in ("a.safetensors", "a"):
        (tmp_path / name).touch()
        with pytest.raises(OutputError, match=r"exists and is not replaced; name another"):
            converted(source, tmp_path / name)
    with pytest.raises(InvalidRequest, match=r"precision 'int8' is unknown; one of: f32, f16, bf16"):
        converted(source, tmp_path / "b", "int8")
    with pytest.raises(OutputError, match=r"could not be written"):
        converted(source, tmp_path / "a" / "b" / "c.safetensors")


def test_stopping_leaves_nothing(whole, tmp_path):
    checkpoint = read_checkpoint(whole("SD 1.5").file())
    for name in ("a.safetensors", "a"):
        steps = convert(checkpoint, tmp_path / name)
        next(steps), next(steps)
        steps.close()
        assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_whole_is_not_written(whole, tmp_path):
    gone = "model.diffusion_model.out.2.bias"
    source = whole("SD 1.5").file(lambda state: {n: v for n, v in state.items() if n != gone}, name="broken")
    with pytest.raises(InvalidCheckpoint, match=r"1 missing: 'conv_out\.bias'"):
        converted(source, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


# --- info and verify ----------------------------------------------------------------------------------------


def test_facts(whole):
    for family, label, side in (("SD 1.5", "SD 1.x", 256), ("SD 2.1", "SD 2.x", 384), ("SDXL", "SDXL", 512)):
        made = whole(family)
        for path in (made.file(), made.saved()):
            found = facts(read_checkpoint(path))
            assert (found.family, found.side, found.inpainting) == (label, side, False)
            unet = next(part for part in found.parts if part.name == "unet")
            assert unet.parameters == sum(p.numel() for p in made.theirs.unet.parameters())
            assert unet.bytes == 4 * unet.parameters and unet.types == ("float32",)
    assert facts(read_checkpoint(whole("inpainting").file())).inpainting


def test_verify(whole, tmp_path):
    made = whole("SD 1.5")
    checkpoint = read_checkpoint(made.file())
    assert sum(verify(checkpoint)) == sum(part.bytes for part in facts(checkpoint).parts)
    state = ldm_state(made.theirs)
    state["first_stage_model.decoder.conv_out.bias"][2] = torch.nan
    with pytest.raises(InvalidCheckpoint, match=r"tensor 'decoder\.conv_out\.bias' in .* 1 of 3 entries"):
        list(verify(read_checkpoint(save(state, tmp_path / "nan.safetensors"))))
