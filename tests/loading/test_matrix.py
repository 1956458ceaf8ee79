"""Every family in every layout and type of number: what diffusers draw with the same weights, we draw."""

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)

from tests.loading.test_single_files import ours_of, theirs_of
from tests.pipeline.measure import least_psnr
from tests.single_files import Whole, cast, ldm_state, only_average, with_average, without
from tests.tools.test_convert import converted

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ALIKE = 50  # dB, in 32 bits
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
CLASSES = {
    "SD 1.5": StableDiffusionPipeline,
    "inpainting": StableDiffusionInpaintPipeline,
    "SD 2.1": StableDiffusionPipeline,
    "SD 2 inpainting": StableDiffusionInpaintPipeline,
    "SDXL": StableDiffusionXLPipeline,
}
EDITIONS = {"plain": None, "with averages": with_average, "averages alone": only_average}


def rounded(made: Whole, kind: str) -> Any:
    """diffusers' pipeline with weights that have gone through a type. It computes in f32 as ours does."""
    return copy.deepcopy(made.theirs).to(TYPES[kind]).to(torch.float32)


def folder(made: Whole, kind: str, place: Path) -> Path:
    copy.deepcopy(made.theirs).to(TYPES[kind]).save_pretrained(place / "folder")
    return place / "folder"


def single(made: Whole, kind: str, place: Path) -> Path:
    return made.file(dtype=TYPES[kind], name=f"{kind}.safetensors")


def pickled(made: Whole, kind: str, place: Path) -> Path:
    """As trainers of 2022 left it: the weights among what else there was."""
    state = cast(ldm_state(made.theirs), TYPES[kind])
    torch.save({"state_dict": state, "global_step": 7, "epoch": 1}, place / "model.ckpt")
    return place / "model.ckpt"


LAYOUTS: dict[str, Callable[[Whole, str, Path], Path]] = {
    "folder": folder,
    "file": single,
    "pickle": pickled,
}


@pytest.fixture(scope="module")
def expected(whole: Callable[[str], Whole]) -> Callable[[str, str], Any]:
    """`expected(family, type)`, drawn by diffusers once."""
    return cache(lambda family, kind: theirs_of(rounded(whole(family), kind)))


QUICK = {
    ("SD 1.5", "file", "f16"),
    ("SD 1.5", "pickle", "f32"),
    ("inpainting", "pickle", "bf16"),
    ("SD 2.1", "folder", "f16"),
    ("SD 2 inpainting", "file", "f32"),
    ("SDXL", "pickle", "f16"),
    ("SDXL", "folder", "bf16"),
}
CELLS = [(family, layout, kind) for family in CLASSES for layout in LAYOUTS for kind in TYPES]


@pytest.mark.parametrize(
    ("family", "layout", "kind"),
    [pytest.param(*cell, marks=[] if cell in QUICK else pytest.mark.slow) for cell in CELLS],
)
def test_the_same_weights_draw_the_same_picture(whole, expected, family, layout, kind, tmp_path):
    path = LAYOUTS[layout](whole(family), kind, tmp_path)
    assert least_psnr(ours_of(path), expected(family, kind)) > ALIKE
    if kind != "f32":  # and that is not because rounding changes nothing
        assert least_psnr(expected(family, kind), expected(family, "f32")) < float("inf")


@pytest.mark.slow
@pytest.mark.parametrize("own_autoencoder", [True, False], ids=["own autoencoder", "another's"])
@pytest.mark.parametrize("edition", EDITIONS)
@pytest.mark.parametrize("family", CLASSES)
def test_editions_of_a_file(whole, expected, family, edition, own_autoencoder, tmp_path):
    """With running averages beside the weights or in their place, with and without an autoencoder."""
    made, kind = whole(family), "f16"
    state, change = cast(ldm_state(made.theirs), TYPES[kind]), EDITIONS[edition]
    state = state if change is None else change(state)
    options = {}
    if not own_autoencoder:
        vae = copy.deepcopy(made.theirs.vae).to(TYPES[kind])
        vae.save_pretrained(tmp_path / "vae")
        options["vae"] = tmp_path / "vae"
        state = without("first_stage_model.")(state)
    torch.save(state, tmp_path / "model.ckpt")
    assert least_psnr(ours_of(tmp_path / "model.ckpt", **options), expected(family, kind)) > ALIKE


@pytest.mark.slow
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("family", CLASSES)
def test_diffusers_draw_with_what_is_written(whole, expected, family, kind, tmp_path):
    """A folder and a file, each made of the other layout."""
    made, theirs = whole(family), CLASSES[family]
    file = converted(made.saved(), tmp_path / "model.safetensors", kind)
    again = converted(file, tmp_path / "folder", kind)
    read = theirs.from_single_file(
        str(file), config=str(made.saved()), local_files_only=True, safety_checker=None,
        dtype=torch.float32,
    )  # fmt: skip
    read.scheduler = made.theirs.scheduler
    for pipeline in (read, theirs.from_pretrained(again, dtype=torch.float32)):
        pipeline.set_progress_bar_config(disable=True)
        assert least_psnr(theirs_of(pipeline), expected(family, kind)) > ALIKE
    for path in (file, again):
        assert least_psnr(ours_of(path), expected(family, kind)) > ALIKE


def test_diffusers_read_a_refiner_that_is_written(whole, tmp_path):
    """Tensor for tensor; its pictures are in test_refiner."""
    made = whole("refiner")
    file = converted(made.saved(), tmp_path / "model.safetensors")
    again = converted(file, tmp_path / "folder")
    kind = StableDiffusionXLImg2ImgPipeline
    for pipeline in (
        kind.from_single_file(str(file), config=str(made.saved()), local_files_only=True),
        kind.from_pretrained(again),
    ):
        assert pipeline.config.requires_aesthetics_score and not pipeline.config.force_zeros_for_empty_prompt
        assert pipeline.text_encoder is None and pipeline.tokenizer is None
        for part in ("unet", "vae", "text_encoder_2"):
            ours, theirs = getattr(made.theirs, part).state_dict(), getattr(pipeline, part).state_dict()
            assert set(ours) == set(theirs)
            assert all(torch.equal(ours[name], theirs[name]) for name in ours), part
