"""ControlNet training: no effect at first, bit-exact resuming, and loading in diffusers."""

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from PIL import Image

from pochade.configs.read_json import controlnet_config
from pochade.errors import InvalidRequest
from pochade.images.decode import on_white
from pochade.images.preprocessors import preprocessed
from pochade.loading.auxiliary import controlnet_on
from pochade.models.controlnet import controlnet, embed_hint
from pochade.models.embedding import embed_timestep
from pochade.pipeline.loader import load
from pochade.request_options import Control as Steered
from pochade.training.controlnet_training import (
    ControlNetTask,
    controlnet_for,
    controlnet_pictures,
    controlnet_stage,
    export_controlnet,
    training_pictures,
)
from pochade.training.corpus.importers.common import split_by_share
from pochade.training.corpus.importers.importer import HELD_OUT
from pochade.training.finetune import FineTuning, open_model
from pochade.training.loop import averaged
from tests.training.data.test_captions import entry
from tests.training.data.test_scenes import CORPUS as SMALL

CORPUS: Any = replace(
    SMALL, entries=tuple(replace(each, width=128, height=128, row=i) for i, each in enumerate(SMALL.entries))
)


@pytest.fixture
def tuning(model: Path, tmp_path: Path) -> FineTuning:
    return FineTuning(model=model, corpus=CORPUS, folder=tmp_path / "run")


@pytest.fixture(scope="session")
def taught(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ControlNet's folder, after a few large steps."""
    folder = tmp_path_factory.mktemp("control")
    tuning = FineTuning(model=model, corpus=CORPUS, folder=folder / "run")
    list(controlnet_stage(tuning, ControlNetTask(scenes=3), batch=2, rate=5e-2).train(4))
    export_controlnet(tuning, folder / "controlnet")
    return folder / "controlnet"


def test_it_begins_as_the_unet_and_changes_nothing(tuning: FineTuning) -> None:
    stage = controlnet_stage(tuning, ControlNetTask(), batch=2)
    pipeline = open_model(tuning.model, "cpu")
    name = "mid_block.resnets.0.conv1.weight"
    copied = torch.tensor(pipeline.networks.unet.tensors[name], dtype=torch.float32)
    assert torch.equal(stage.parameters[f"controlnet.{name}"], copied)
    assert not stage.parameters["controlnet.controlnet_down_blocks.0.weight"].any()
    assert all(name.startswith("controlnet.") for name in stage.parameters)
    list(controlnet_stage(tuning, ControlNetTask(), batch=2, rate=1e-12).train(1))
    export_controlnet(tuning, tuning.folder / "controlnet")
    picture = Image.new("RGB", (128, 128), "red")
    steered = Steered(image=picture, model=tuning.folder / "controlnet", preprocessor="canny")
    drawn = [
        np.asarray(
            load(tuning.model, engine="numpy").txt2img("a fox", steps=2, seed=1, controls=controls).images[0]
        )
        for controls in ((), (steered,))
    ]
    assert np.array_equal(*drawn)


def test_a_run_that_was_stopped_ends_with_the_same_bits(model: Path, tmp_path: Path) -> None:
    def run(name: str, *counts: int) -> dict[str, torch.Tensor]:
        tuning = FineTuning(model=model, corpus=CORPUS, folder=tmp_path / name)
        for count in counts:
            stage = controlnet_stage(tuning, ControlNetTask(scenes=2), batch=2, rate=1e-3)
            list(replace(stage, plan=replace(stage.plan, cooldown=1e-9)).train(count))
        return averaged(tuning.folder)

    whole, resumed = run("whole", 3), run("parts", 1, 3)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_diffusers_reads_what_is_written_and_says_the_same(taught: Path, model: Path) -> None:
    theirs = ControlNetModel.from_pretrained(taught).eval()
    pipeline = load(model, engine="torch", precision="f32")
    ours = controlnet_on(pipeline.networks.unet.engine, taught)
    config = ours.config
    assert config == controlnet_config(dict(theirs.config))
    assert replace(config, unet=replace(config.unet, sample_size=16)) == controlnet_for(pipeline)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 4, 16, 16), np.float32)
    context = rng.standard_normal((1, 32, 256), np.float32)
    picture = rng.random((1, 3, 128, 128), np.float32)
    hint = ours.run(embed_hint, picture=picture)
    found = ours.run(controlnet, x=x, time=embed_timestep(config.unet, [500]), context=context, hint=hint)
    with torch.no_grad():
        down, middle = theirs(
            torch.from_numpy(x),
            500,
            torch.from_numpy(context),
            torch.from_numpy(picture),
            return_dict=False,
        )
    expected = [*down, middle]
    assert len(found) == len(expected) and any(np.abs(part).max() > 1e-3 for part in found)
    for part, other in zip(found, expected, strict=True):
        assert np.abs(part - other.numpy()).max() < 1e-4 * max(1.0, float(other.abs().max()))


def test_it_steers_a_drawing(taught: Path, model: Path) -> None:
    pipeline = load(model, engine="numpy")
    picture = Image.fromarray(CORPUS.picture(1)[..., :3])
    steered = Steered(image=picture, model=taught, preprocessor="canny")
    plain, other = (
        np.asarray(pipeline.txt2img("a fox", steps=2, seed=1, controls=controls).images[0])
        for controls in ((), (steered,))
    )
    assert not np.array_equal(plain, other)


def test_hints_are_what_the_preprocessor_shows_of_the_learned_picture(tuning: FineTuning) -> None:
    found = controlnet_pictures(open_model(tuning.model, "cpu"), tuning, ControlNetTask(scenes=5))
    assert [len(each) for each in found.shown.latents] == [len(CORPUS.entries) + 5]
    latents, hints, captions = found.batch(4, np.random.default_rng(0))
    assert latents.shape == (4, 4, 16, 16) and hints.shape == (4, 3, 128, 128) and len(captions) == 4
    assert set(hints.unique().tolist()) == {0.0, 1.0}
    files = {path.name: path.stat().st_mtime_ns for path in tuning.folder.glob("pictures-*")}
    again = controlnet_pictures(open_model(tuning.model, "cpu"), tuning, ControlNetTask(scenes=5))
    assert {path.name: path.stat().st_mtime_ns for path in tuning.folder.glob("pictures-*")} == files
    assert again.hints == found.hints and again.shown.captions == found.shown.captions
    learned = on_white(Image.fromarray(CORPUS.picture(0))).resize((128, 128), Image.Resampling.LANCZOS)
    with Image.open(io.BytesIO(found.hints[0][0])) as hint:
        assert np.array_equal(np.asarray(hint), np.asarray(preprocessed(learned, "canny")))


@dataclass(frozen=True)
class Recoloured:
    """The same corpus to all appearances, with other pixels."""

    entries: tuple[Any, ...]

    def picture(self, index: int) -> Any:
        return CORPUS.picture(index)[..., [2, 0, 1, 3]]

    def content(self, index: int) -> bytes:
        return bytes(self.picture(index).tobytes())


def test_replaced_pictures_are_encoded_anew_and_are_another_run(tuning: FineTuning, tmp_path: Path) -> None:
    recoloured: Any = Recoloured(CORPUS.entries)
    pipeline = open_model(tuning.model, "cpu")
    kept = controlnet_pictures(pipeline, tuning, ControlNetTask())
    found = controlnet_pictures(pipeline, replace(tuning, corpus=recoloured), ControlNetTask())
    fresh = replace(tuning, corpus=recoloured, folder=tmp_path / "fresh")
    anew = controlnet_pictures(pipeline, fresh, ControlNetTask())
    assert not torch.equal(found.shown.latents[0], kept.shown.latents[0])
    assert torch.equal(found.shown.latents[0], anew.shown.latents[0]) and found.hints == anew.hints
    list(controlnet_stage(tuning, ControlNetTask(), batch=2).train(1))
    for other, control, words in (
        (replace(tuning, corpus=recoloured), ControlNetTask(), "other pictures or captions"),
        (tuning, ControlNetTask(condition="scribble"), "condition 'canny', not 'scribble'"),
        (tuning, ControlNetTask(scenes=1), "scenes '0', not '1'"),
        (replace(tuning, model=None), ControlNetTask(), "another model"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            controlnet_stage(other, control, batch=2)
    list(controlnet_stage(tuning, ControlNetTask(), batch=2).train(2))


def test_a_folder_of_pictures_is_learned_from_as_a_whole(tmp_path: Path) -> None:
    """Also a single picture that, by its bytes, would be held out of a training set."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(1000):
        Image.new("RGB", (8, 8), (number % 256, number // 256, 0)).save(folder / "a.png")
        if split_by_share((folder / "a.png").read_bytes(), HELD_OUT) == "held-out":
            break
    else:
        raise AssertionError("none would be held out")
    (folder / "a.txt").write_text("picture")
    corpus = training_pictures(folder, tmp_path / "run")
    assert [entry.split for entry in corpus.entries] == ["train"]


def test_pictures_that_are_all_held_out_are_not_called_too_small(tuning: FineTuning) -> None:
    held_out: Any = replace(CORPUS, entries=tuple(replace(each, split="held-out") for each in CORPUS.entries))
    with pytest.raises(
        InvalidRequest,
        match="all 4 pictures are held out, so there is none to train on; make the training set again",
    ):
        controlnet_stage(replace(tuning, corpus=held_out), ControlNetTask())


def test_a_folder_of_pictures_becomes_a_training_set(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (130, 140), (90 * number, 0, 0)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture {number}")
    corpus = training_pictures(folder, tmp_path / "run")
    assert len(corpus) == 3 and corpus.folder == tmp_path / "run" / "pictures"
    with pytest.raises(InvalidRequest, match=r"style 'oil'; there are: none"):
        training_pictures(folder, tmp_path / "run", "oil")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"condition": "depth"}, "preprocessor 'depth' is unknown"),
        ({"condition": "none"}, "cannot be used, because it shows the picture itself; one of: canny"),
        ({"scenes": -1}, "scenes is -1"),
    ],
)
def test_what_cannot_be_followed_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        ControlNetTask(**values)


def test_pictures_that_are_too_small_are_refused(tuning: FineTuning) -> None:
    small: Any = replace(CORPUS, entries=(entry("dot", width=20, height=20),))
    with pytest.raises(InvalidRequest, match="large enough"):
        controlnet_stage(replace(tuning, corpus=small), ControlNetTask())
