"""Drawing in 8 bits: like the exact pictures, with grids that come with a model or are made once."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import pochade
from pochade.checkpoints import check
from pochade.checkpoints.grids import grids_path
from pochade.checkpoints.safetensors import read, write
from pochade.engines.openvino import OpenVinoEngine
from pochade.errors import InvalidCheckpoint, InvalidRequest
from pochade.evaluation.likeness import ssim
from pochade.loading.int8_networks import find_grids, grids_in_cache, in_int8, keep_grids, keep_in_cache
from pochade.pipeline import Pipeline
from pochade.pipeline.calibrate import STEPS, calibrate
from pochade.quantization.files import load
from pochade.quantization.fit_grids import SENSITIVE
from pochade.settings import starter_folder

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


@pytest.fixture(scope="module")
def steps(starters):
    """Calibrating the starter with two prompts."""
    return list(calibrate(starters[0], ["a fox", "a dog"]))


def test_the_starters_grids_are_of_its_weights(starters, steps):
    """All products that should have a grid have one, and all of them are good enough to be used."""
    tables = find_grids(starter_folder(), starters[0].checkpoint, starters[0].networks)
    assert {part: set(table) for part, table in tables.items()} == {
        part: set(table) for part, table in steps[-1].tables.items()
    }
    assert all(each.used for table in tables.values() for each in table.values())


def test_an_error_is_measured_and_the_sensitive_stay_exact(starters, steps):
    tables = steps[-1].tables
    errors = [each.error for table in tables.values() for each in table.values()]
    assert 0.001 < min(errors) < np.median(errors) < 0.05
    network = in_int8(starters[0].networks, tables).unet
    used = {name for name, each in tables["unet"].items() if each.error <= SENSITIVE}
    assert set(network.engine._grids) == used


def test_progress_is_told_for_every_evaluation(steps):
    total = STEPS[0] + STEPS[1]
    assert [(each.step, each.steps) for each in steps] == [(i, total) for i in range(1, total + 1)]


@pytest.fixture
def tiny(model, tmp_path) -> Path:
    """A small random model's folder, without grids."""
    return Path(shutil.copytree(model("SD 1.5").folder, tmp_path / "tiny"))


def test_grids_that_a_model_lacks_are_made_once(tiny, monkeypatch):
    first = pochade.load(tiny, precision="int8")
    assert grids_in_cache(first.checkpoint).is_file()
    monkeypatch.setattr(OpenVinoEngine, "observing", None)  # fails if anything is watched again
    again = pochade.load(tiny, precision="int8")
    assert np.array_equal(*(np.asarray(pictures(each)[0]) for each in (first, again)))


def test_loading_with_grids_reads_no_weights(monkeypatch):
    """They are gigabytes, and a graph that comes from the cache needs none of them."""
    read_through = []
    monkeypatch.setattr(check, "check_finite", lambda tensors, where: read_through.extend(tensors))
    pipeline = pochade.load(precision="int8", engine="openvino")
    assert read_through == []
    next(iter(pipeline.networks.unet.tensors.items()))
    assert len(read_through) == 1


def test_grids_lie_beside_a_single_file_under_its_name():
    assert grids_path(Path("/models/a.b.safetensors")) == Path("/models/a.b.int8.safetensors")


def test_grids_of_another_model_are_left_alone_and_new_ones_fitted(tiny):
    shutil.copy(grids_path(starter_folder()), grids_path(tiny))
    with pytest.warns(RuntimeWarning, match="grids of other weights"):
        pipeline = pochade.load(tiny, precision="int8")
    assert grids_in_cache(pipeline.checkpoint).is_file()
    assert pipeline.networks.unet.engine._grids


def fitted(folder, **options):
    pipeline = pochade.load(folder, precision="f32", engine="openvino", **options)
    (*_, last) = calibrate(pipeline, ["a fox"])
    return pipeline, last.tables


def test_another_autoencoder_does_not_get_the_grids_of_the_models_own(tiny, tmp_path):
    pipeline, tables = fitted(tiny)
    keep_grids(grids_path(tiny), tables, pipeline.networks)
    assert find_grids(tiny, pipeline.checkpoint, pipeline.networks) is not None
    other = shutil.copytree(tiny / "vae", tmp_path / "vae")
    weights = other / "diffusion_pytorch_model.safetensors"
    tensors = {name: np.asarray(tensor) for name, tensor in read(weights).items()}
    write(weights, {name: tensor * tensor.dtype.type(2) for name, tensor in tensors.items()})
    pipeline = pochade.load(tiny, precision="f32", engine="openvino", vae=other)
    with pytest.warns(RuntimeWarning, match="grids of other weights"):
        assert find_grids(tiny, pipeline.checkpoint, pipeline.networks) is None


def test_ones_own_grids_win_over_those_that_came_with_the_model(tiny):
    pipeline, tables = fitted(tiny)
    keep_grids(grids_path(tiny), tables, pipeline.networks)
    (*_, last) = calibrate(pipeline, ["a castle by the sea"])
    place = keep_in_cache(pipeline.checkpoint, last.tables, pipeline.networks)
    assert ends(find_grids(tiny, pipeline.checkpoint, pipeline.networks)) == ends(last.tables)
    place.write_bytes(b"damaged")
    assert ends(find_grids(tiny, pipeline.checkpoint, pipeline.networks)) == ends(tables)


def ends(tables):
    return {name: (each.grid.low, each.grid.high) for name, each in tables["unet"].items()}


@pytest.mark.filterwarnings("ignore:compiled graphs are not kept")
def test_a_cache_that_cannot_be_written_to_costs_a_warning_and_no_picture(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POCHADE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(RuntimeWarning, match="grids are not kept"):
        pipeline = pochade.load(tiny, precision="int8")
    assert pipeline.networks.unet.engine._grids


def test_grids_that_do_not_fit_the_weights_are_refused(model):
    pipeline = model("SD 1.5").load(engine="openvino")
    with pytest.raises(InvalidCheckpoint, match=r"another model's.*models quantize"):
        in_int8(pipeline.networks, load(grids_path(starter_folder())).tables)


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


def test_a_refiner_is_fitted_over_a_picture(whole):
    pipeline = pochade.load(whole("refiner").file(), device="cpu", precision="f32", engine="openvino")
    *steps, last = calibrate(pipeline, ["a red fox"])
    assert len(last.tables["unet"]) > 20 and len(last.tables["vae"]) > 5
    assert len(steps) in (STEPS[0] - 1, STEPS[0])


def test_an_inpainting_model_is_fitted_with_pictures_and_its_first_layer_stays_exact(model, monkeypatch):
    seen = []
    pipeline = model("inpainting").load(engine="openvino")
    original = Pipeline.stream
    monkeypatch.setattr(
        Pipeline, "stream", lambda self, request: seen.append(request) or original(self, request)
    )
    (*_, last) = calibrate(pipeline, ["a red fox", "a blue house"])
    assert [request.source is not None for request in seen] == [False, True]
    assert pipeline.networks.unet_config.in_channels == 9
    assert "conv_in.weight" not in last.tables["unet"] and len(last.tables["unet"]) > 20
