"""Training the starter's networks on four small pictures, and fine-tuning the result."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pochade.errors import InvalidRequest
from pochade.pipeline.loader import load
from pochade.training import precision, starter
from pochade.training.data.selection import framed, known, random_view, scene_groups, single_entries
from pochade.training.finetune import FineTuning, export_finetuned, finetuning_stage, latents_of
from pochade.training.loop import averaged, write_portable
from pochade.training.precision import mixed_precision
from pochade.training.starter import Run, write_model
from pochade.training.starter_config import EDITIONS, FIRST
from tests.training.conftest import AUTOENCODER, TINY
from tests.training.data.test_captions import entry
from tests.training.data.test_scenes import CORPUS


def test_the_pieces_make_a_model_that_draws(model: Path) -> None:
    pipeline = load(model, engine="numpy")
    assert pipeline.txt2img("a fox", seed=1, steps=1).images[0].size == (128, 128)
    assert pipeline.tokenizers[0].max_length == starter.TOKENS
    # the background's colour must drown in the last noise level
    assert pipeline.schedule.sigma_max == pytest.approx(starter.NOISE.sigma_max)
    assert pipeline.schedule.sigma_max > 60


def test_a_run_begins_from_a_finished_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(corpus=CORPUS, folder=tmp_path / "further", config=replace(FIRST, autoencoder=AUTOENCODER))
    with pytest.raises(InvalidRequest, match=r"the UNet of .* has other sizes"):
        starter.adopt(run, model, 20)
    assert not run.folder.exists()
    run = replace(run, config=TINY)
    monkeypatch.setattr(starter, "SCENES", 6)
    monkeypatch.setattr(starter, "MEASURED", 4)
    starter.adopt(run, model, 20)
    learned = averaged(run.folder / "diffusion")
    stored = load(model, engine="numpy").networks.unet.tensors
    assert all(np.array_equal(learned[f"unet.{name}"].numpy(), stored[name]) for name in stored)
    assert [progress.step for progress in starter.text_and_unet(run, batch=4).train(22)] == [22]
    write_model(run, tmp_path / "model")
    further = load(tmp_path / "model", engine="numpy")
    assert not np.array_equal(further.networks.unet.tensors["conv_in.weight"], stored["conv_in.weight"])


def test_products_are_rounded_only_where_the_processor_can(monkeypatch: pytest.MonkeyPatch) -> None:
    a = torch.full((2, 2), 1 + 2**-12)
    found = {
        ("AVX2", "AVX-512", "VNNI", "AVX-512 BF16"): torch.bfloat16,
        ("AMX BF16",): torch.bfloat16,
        ("BF16",): torch.bfloat16,
        ("AVX2", "AVX-512", "VNNI"): torch.float32,  # oneDNN would emulate it
        (): torch.float32,
    }
    for names, kind in found.items():
        monkeypatch.setattr(precision, "instructions", lambda names=names: list(names))
        with mixed_precision("cpu"):
            assert (a @ a).dtype == kind


def test_what_the_starter_learns() -> None:
    assert known(entry("fox")) and known(entry("red circle", group="symbols"))
    assert not known(entry("input symbols", group="symbols"))
    people = {"group": "people-body", "subgroup": "person-role"}
    assert known(entry("astronaut", **people)) and known(entry("man", **people))
    assert not known(entry("woman astronaut", **people))
    held_out: Any = replace(
        CORPUS, entries=(replace(CORPUS.entries[0], split="held-out"), *CORPUS.entries[1:])
    )
    assert single_entries(held_out) == [1, 2, 3]
    assert scene_groups(held_out) == [[1], [2, 3]]


def test_pictures_are_framed_in_white_and_views_fill_their_side() -> None:
    picture = framed(CORPUS, 1, 128)
    assert picture.shape == (128, 128, 3) and (picture[:6] == 255).all() and (picture[:, -6:] == 255).all()
    assert tuple(picture[64, 64]) == CORPUS.colours[1]
    for seed in range(20):
        view = random_view(CORPUS, [0, 1, 2, 3], np.random.default_rng(seed), 128, 64)
        assert view.shape == (64, 64, 3)


@dataclass(frozen=True)
class Photographs:
    """A person's own pictures: two shapes, with captions."""

    entries: tuple[Any, ...]

    def picture(self, index: int) -> NDArray[np.uint8]:
        shape = (self.entries[index].height, self.entries[index].width, 3)
        return np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)

    def content(self, index: int) -> bytes:
        return self.picture(index).tobytes()


@dataclass(frozen=True)
class Others(Photographs):
    """Other pictures under the same names."""

    def picture(self, index: int) -> NDArray[np.uint8]:
        return 255 - super().picture(index)


PHOTOGRAPHS: Any = Photographs(
    tuple(
        entry("", caption=f"my picture {number}", width=width, height=height, style="")
        for number, (width, height) in enumerate([(128, 128), (128, 130), (200, 100), (190, 95), (20, 20)])
    )
)


@pytest.mark.parametrize("with_text_encoder", [True, False])
def test_a_model_is_tuned_on_pictures_of_several_shapes(
    model: Path, tmp_path: Path, with_text_encoder: bool
) -> None:
    tuning = FineTuning(
        model=model, corpus=PHOTOGRAPHS, folder=tmp_path / "run", with_text_encoder=with_text_encoder
    )
    stage = finetuning_stage(tuning, batch=2, rate=1e-3)
    assert [progress.step for progress in stage.train(3)] == [3]
    export_finetuned(tuning, tmp_path / "tuned")
    before, after = load(model, engine="numpy"), load(tmp_path / "tuned", engine="numpy")
    name = "conv_in.weight"
    assert not np.array_equal(before.networks.unet.tensors[name], after.networks.unet.tensors[name])
    text = [np.array(each.networks.text_encoder.tensors["final_layer_norm.bias"]) for each in (before, after)]
    assert np.array_equal(*text) != with_text_encoder
    assert after.schedule.sigma_max == before.schedule.sigma_max
    assert after.txt2img("my picture", steps=1, seed=0).images[0].size == (128, 128)


def test_latents_of_replaced_pictures_are_not_taken_for_theirs() -> None:
    others: Any = Others(PHOTOGRAPHS.entries)
    chosen = range(len(PHOTOGRAPHS.entries))
    kept, again, replaced = (
        starter._fingerprint({}, corpus, chosen) for corpus in (PHOTOGRAPHS, PHOTOGRAPHS, others)
    )
    assert kept == again != replaced


def test_a_tuning_keeps_its_pictures_its_model_and_what_it_trains(model: Path, tmp_path: Path) -> None:
    tuning = FineTuning(model=model, corpus=PHOTOGRAPHS, folder=tmp_path / "run")
    list(finetuning_stage(tuning, batch=2).train(1))
    others: Any = Others(PHOTOGRAPHS.entries)
    for changed, words in (
        (replace(tuning, corpus=others), "other pictures or captions"),
        (replace(tuning, model=None), "another model"),
        (replace(tuning, with_text_encoder=False), "text encoder 'trained', not 'left as it is'"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            finetuning_stage(changed, batch=2)
    write_portable(tuning.folder, tmp_path / "elsewhere")
    with pytest.raises(InvalidRequest, match="other pictures or captions"):
        finetuning_stage(replace(tuning, corpus=others, folder=tmp_path / "elsewhere"), batch=2)
    moved = tmp_path / "moved"
    shutil.copytree(model, moved)
    finetuning_stage(replace(tuning, model=moved), batch=2)  # the same model in another place


def test_latents_keep_the_shapes_of_their_pictures(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = latents_of(load(model, engine="numpy"), PHOTOGRAPHS)
    shapes = {tuple(each.shape[2:]) for each in shown.latents}
    assert (16, 16) in shapes and any(width > height for height, width in shapes)
    assert "1 of 5 pictures are too small" in capsys.readouterr().out
    for seed in range(10):
        latents, captions = shown.batch(2, np.random.default_rng(seed))
        assert latents.shape[0] == 2 and len(set(captions)) == 2


def test_pictures_that_are_all_too_small_are_refused(model: Path) -> None:
    small: Any = Photographs((PHOTOGRAPHS.entries[-1],))
    with pytest.raises(InvalidRequest, match="large enough"):
        latents_of(load(model, engine="numpy"), small)


def test_a_corpus_of_smaller_pictures_than_the_edition_draws_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"128 px, and .* draws 256 px; make one with .* --size 256"):
        Run(corpus=CORPUS, folder=tmp_path, config=EDITIONS[2])


def test_both_editions_have_the_same_number_of_latent_pixels() -> None:
    """So that 256 px cost the UNet no more than 128 px did."""
    for config in EDITIONS.values():
        assert config.side // config.autoencoder.factor == config.unet.sample_size == 16
        assert config.unet.in_channels == config.unet.out_channels == config.autoencoder.latent_channels
