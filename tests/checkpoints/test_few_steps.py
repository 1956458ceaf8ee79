"""Detection of few-step models from configurations, metadata and names."""

import json

import numpy as np
import pytest

from pochade.checkpoints import library, safetensors
from pochade.checkpoints.contents import contents_of
from pochade.checkpoints.detect import SD1, XL
from pochade.checkpoints.few_steps import few_steps_of_folder, find_few_steps
from pochade.checkpoints.library import describe, entries
from pochade.checkpoints.read import read_checkpoint
from pochade.request import Defaults
from tests.checkpoints.test_library import SD1 as SD1_TEXT
from tests.checkpoints.test_library import UNET as SD1_UNET
from tests.fake_hub import write_tensors
from tests.single_files import make_whole

LCM = Defaults(steps=4, cfg_scale=1.0, sampler="LCM")


def named(name, family=XL, **signs):
    return find_few_steps(titles={}, name=name, family=family, **signs)


@pytest.mark.parametrize(
    ("name", "kind", "steps", "scale", "sampler", "schedule"),
    [
        ("dreamshaper_8LCM", "LCM", 4, 1.0, "LCM", "Automatic"),
        ("lcm-lora-sdv1-5", "LCM", 4, 1.0, "LCM", "Automatic"),
        ("sdxl_lightning_8step", "Lightning", 8, 1.0, "Euler", "Turbo"),
        ("sdxl_lightning_2step_lora", "Lightning", 2, 1.0, "Euler", "Turbo"),
        ("juggernautXL_v9Rdphoto2Lightning", "Lightning", 4, 1.0, "Euler", "Turbo"),
        ("sd_xl_turbo_1.0_fp16", "Turbo", 4, 1.0, "Euler a", "Turbo"),
        ("sdxlTurbo", "Turbo", 4, 1.0, "Euler a", "Turbo"),
        ("Hyper-SD15-1step-lora", "Hyper-SD", 1, 1.0, "DDIM", "Turbo"),
        ("Hyper-SDXL-8steps-CFG-lora", "Hyper-SD", 8, 5.0, "DDIM", "Turbo"),
        ("dmd2_sdxl_4step_lora_fp16", "DMD2", 4, 1.0, "LCM", "Turbo"),
        ("tcd-sdxl-lora", "TCD", 4, 1.0, "TCD", "Automatic"),
    ],
)
def test_names(name, kind, steps, scale, sampler, schedule):
    found = named(name)
    assert found.kind == kind
    assert found.defaults == Defaults(steps=steps, cfg_scale=scale, sampler=sampler, schedule=schedule)
    assert found.reason == f"its name is '{name}'"


@pytest.mark.parametrize(
    "name",
    ["calcmap", "hyperrealistic_v3", "hyperVision", "turbocharged", "v1-5-pruned-emaonly", "20000steps", ""],
)
def test_other_names(name):
    assert named(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "sdxl_lightning_8step_lora",
        "SDXL-Lightning",
        "lightning_4step_lora",
        "sd_xl_turbo_lora_v1",
        "sd-turbo-lora",
        "Hyper-SD15-8steps-lora",
        "lcm-lora-sdv1-5",
    ],
)
def test_adapters_for_few_steps(name):
    assert named(name, is_adapter=True) is not None


@pytest.mark.parametrize(
    "name",
    [
        "lightning_storm",
        "lightning",
        "porsche-911-turbo",
        "turbo_charged_cars_lora",
        "hyper_realism_v3_8 steps",
        "lightning_storm_sdxl",
    ],
)
def test_adapters_that_show_lightning(name):
    assert named(name, is_adapter=True) is None


def test_a_number_of_training_steps_is_none_of_drawing():
    assert named("mine_20000steps_lcm").defaults.steps == 4
    assert named("lcm_0steps").defaults.steps == 4


def test_lightning_is_a_family_of_xl_alone():
    """Of SD 1.5 it would be a model that draws lightning."""
    assert named("lightning", SD1) is None
    assert named("lightning", None).kind == "Lightning"


def test_what_the_network_says_is_more_than_a_name():
    found = named("turbo_2steps", takes_guidance=True)
    assert (found.kind, found.defaults) == ("LCM", Defaults(steps=2, cfg_scale=8.0, sampler="LCM"))
    found = named("turbo", classes=("StableDiffusionPipeline", "LCMScheduler"))
    assert (found.kind, found.defaults, found.reason) == ("LCM", LCM, "its configuration names LCMScheduler")


def test_titles_are_more_than_the_name():
    found = find_few_steps(titles={"modelspec.title": "SDXL Turbo"}, name="lcm", family=XL)
    assert (found.kind, found.reason) == ("Turbo", "its modelspec.title is 'SDXL Turbo'")


def test_a_folder_names_its_own_sampler():
    """SD Turbo's is Euler, SDXL Turbo's Euler a."""
    scheduler = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}
    found = few_steps_of_folder("sd-turbo", {}, {}, scheduler)
    assert found.defaults == Defaults(steps=4, cfg_scale=1.0, sampler="Euler", schedule="Turbo")
    hub = {"_name_or_path": "stabilityai/sdxl-turbo"}
    assert few_steps_of_folder("mine", hub, {}, {}).reason.startswith(
        "its _name_or_path in model_index.json is"
    )
    assert few_steps_of_folder("mine", {"_name_or_path": "/home/turbo/x/y/z"}, {}, scheduler) is None


def test_damaged_configurations_are_no_sign():
    """Whoever loads it is told what is wrong with it."""
    assert (
        few_steps_of_folder("a", {"_class_name": 3, "_name_or_path": None}, {}, {"_class_name": ["x"]})
        is None
    )


def test_a_file_whose_unet_is_told_the_guidance(tmp_path):
    state = {"model.diffusion_model.input_blocks.0.0.weight": np.zeros((8, 4, 3, 3), np.float32)}
    state |= {"cond_stage_model.transformer.text_model.a": np.zeros(1, np.float32)}
    plain, told = tmp_path / "plain.safetensors", tmp_path / "told.safetensors"
    safetensors.write(plain, state)
    safetensors.write(
        told, {**state, "model.diffusion_model.time_embed.cond_proj.weight": np.zeros(1, np.float32)}
    )
    assert contents_of(plain).few_steps is None
    assert contents_of(told).few_steps.defaults.cfg_scale == 8.0


def test_metadata_of_a_file(tmp_path):
    state = {"model.diffusion_model.input_blocks.0.0.weight": np.zeros((8, 4, 3, 3), np.float32)}
    state |= {"conditioner.embedders.0.transformer.text_model.a": np.zeros(1, np.float32)}
    said = tmp_path / "said.safetensors"
    safetensors.write(said, state, {"modelspec.title": "My Lightning Merge, 6 steps"})
    assert contents_of(said).few_steps.defaults.steps == 6


def test_the_list_of_models_remembers_it(tmp_path):
    """And an older or a damaged memory is read anew."""
    write_tensors(tmp_path / "models" / "tiny-lcm.safetensors", SD1_UNET, SD1_TEXT)
    memory = tmp_path / "memory.json"
    first = describe(entries([tmp_path / "models"]), memory)
    assert first[0][1].few_steps.defaults == LCM
    assert library._read_cache(memory) != {}
    assert describe(entries([tmp_path / "models"]), memory) == first
    kept = json.loads(memory.read_text())
    for broken in (
        ["model", "SD 1.x"],
        ["model", "SD 1.x", ["LCM", "so", {"steps": "4"}]],
        ["model", 3, None],
    ):
        memory.write_text(json.dumps(dict.fromkeys(kept, broken)))
        assert describe(entries([tmp_path / "models"]), memory) == first


@pytest.mark.parametrize("told", [False, True])
def test_a_checkpoint_says_it(tmp_path, told):
    theirs = make_whole("LCM" if told else "SD 1.5", tmp_path)
    theirs.save_pretrained(tmp_path / "model")
    found = read_checkpoint(tmp_path / "model").few_steps
    assert (found is not None) == told
    if told:
        assert found.defaults.cfg_scale == 8.0
