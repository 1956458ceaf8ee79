"""Drawing in 8 bits: like the exact pictures, with grids that come with a model or are made once."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import pochade
from pochade.engines.openvino import OpenVinoEngine
from pochade.errors import InvalidCheckpoint, InvalidRequest
from pochade.evaluation.likeness import ssim
from pochade.pipeline.calibrating import STEPS, calibrate
from pochade.pipeline.load import starter_folder
from pochade.pipeline.loading.int8 import find_grids, grids_beside, grids_in_cache, in_int8
from pochade.quantization.choosing import SENSITIVE

PROMPTS = ("a red apple, 3d style", "a blue house in the snow")


def pictures(pipeline, **options):
    return [
        np.asarray(pipeline.txt2img(prompt, seed=seed, steps=12, **options).images[0])
        for seed, prompt in enumerate(PROMPTS)
    ]


@pytest.fixture(scope="module")
def starters():
    return [pochade.load(precision=precision, engine="openvino") for precision in ("f32", "int8")]


def test_the_starter_draws_nearly_the_same_pictures_and_not_the_same(starters):
    exact, int8 = map(pictures, starters)
    alike = [ssim(one, other) for one, other in zip(exact, int8, strict=True)]
    assert 0.95 < np.mean(alike) < 0.9999


def test_the_settings_of_speed_work_in_8_bits_too(starters):
    exact, int8 = (pictures(each, speed="fast") for each in starters)
    assert np.mean([ssim(one, other) for one, other in zip(exact, int8, strict=True)]) > 0.95


def test_the_starters_grids_are_of_its_weights(starters):
    """All products that should have a grid have one, and all of them are good enough to be used."""
    tables = find_grids(starter_folder(), starters[0].checkpoint)
    (last,) = [step.tables for step in calibrate(starters[0], ["a fox"]) if step.tables is not None]
    assert {part: set(table) for part, table in tables.items()} == {
        part: set(table) for part, table in last.items()
    }
    assert all(each.used for table in tables.values() for each in table.values())


def test_an_error_is_measured_and_the_sensitive_stay_exact(starters):
    (*_, last) = calibrate(starters[0], ["a fox"])
    errors = [each.error for table in last.tables.values() for each in table.values()]
    assert 0.001 < min(errors) < np.median(errors) < 0.05
    network = in_int8(starters[0].networks, last.tables).unet
    used = {name for name, each in last.tables["unet"].items() if each.error <= SENSITIVE}
    assert set(network.engine._grids) == used


def test_progress_is_told_for_every_evaluation(starters):
    steps = list(calibrate(starters[0], ["a fox", "a dog"]))
    total = STEPS[0] + STEPS[1]
    assert [(each.step, each.steps) for each in steps] == [(i, total) for i in range(1, total + 1)]


def without_grids(folder: Path) -> Path:
    shutil.copytree(starter_folder(), folder)
    grids_beside(folder).unlink()
    return folder


def test_grids_that_a_model_lacks_are_made_once(tmp_path, monkeypatch):
    model = without_grids(tmp_path / "model")
    first = pochade.load(model, precision="int8")
    assert grids_in_cache(first.checkpoint).is_file()
    monkeypatch.setattr(OpenVinoEngine, "watching", None)  # fails if anything is watched again
    again = pochade.load(model, precision="int8")
    assert np.array_equal(*(np.asarray(pictures(each)[0]) for each in (first, again)))


def test_grids_lie_beside_a_single_file_under_its_name():
    assert grids_beside(Path("/models/a.b.safetensors")) == Path("/models/a.b.int8.safetensors")


def test_the_grids_of_another_model_are_refused(model, tmp_path):
    tiny = tmp_path / "tiny"
    shutil.copytree(model("SD 1.5").folder, tiny)
    shutil.copy(grids_beside(starter_folder()), grids_beside(tiny))
    with pytest.raises(InvalidCheckpoint, match=r"another model's.*models quantize"):
        pochade.load(tiny, precision="int8")


@pytest.mark.parametrize(
    "options", [{"engine": "torch"}, {"engine": "numpy"}, {"engine": "torch", "device": "cpu"}]
)
def test_other_engines_have_no_8_bit_products(options):
    with pytest.raises(InvalidRequest, match="int8"):
        pochade.load(precision="int8", **options)


@pytest.mark.parametrize("options", [{"prompts": []}, {"smoothing": -0.1}, {"smoothing": 1.5}])
def test_calibrating_with_nothing_sensible_is_refused(starters, options):
    with pytest.raises(InvalidRequest):
        next(calibrate(starters[0], **options))


@pytest.mark.parametrize("family", ["SD 1.5", "SDXL"])
def test_each_family_is_fitted_and_draws(model, family, tmp_path):
    pipeline = model(family).load(engine="openvino")
    (*_, last) = calibrate(pipeline, ["a red fox"])
    networks = in_int8(pipeline.networks, last.tables)
    assert len(networks.unet.engine._grids) > 20
    assert len(networks.autoencoder.engine._grids) > 5
