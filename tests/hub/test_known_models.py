"""The catalogue of known models: consistency, and verification of pinned hashes."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pochade.checkpoints.contents import KINDS
from pochade.checkpoints.few_steps import find_few_steps
from pochade.checkpoints.library import FOLDERS, find
from pochade.checkpoints.own_folder import read_record
from pochade.errors import InvalidRequest, OutputError
from pochade.hub.hub_api import HubError
from pochade.hub.known_models import (
    AUTOENCODER,
    CLIP_G,
    CLIP_H,
    CLIP_L,
    INPAINTING_INPUT,
    KNOWN_MODELS,
    LCM_CONDITION,
    SD1_UNET,
    SD2_UNET,
    XL_UNET,
    find_known,
    known,
)
from pochade.hub.pull import already_pulled, fetch, find_pulled, install, plan_known
from pochade.request import DEFAULTS
from tests.fake_hub import COMMIT, tensors
from tests.models.full_size import CASES, END, VOCABULARY

FILE = "v1-5-pruned-emaonly-fp16.safetensors"


def single(name="sd15", tensor="model.diffusion_model.a"):
    """A known model of one small file, and that file."""
    raw = tensors().replace(b'"weight"', json.dumps(tensor).encode())
    length = raw.index(b"}}") + 2 - 8
    content = length.to_bytes(8, "little") + raw[8:]
    model = known(name)
    return replace(model, sha256={model.file: hashlib.sha256(content).hexdigest()}), content


def test_every_entry_says_what_it_must():
    names = [model.name for model in KNOWN_MODELS]
    assert len(set(names)) == len(names)
    assert {"sd15", "sd-turbo", "sdxl", "sdxl-turbo", "lcm-dreamshaper", "sd15-inpainting", "taesd"} < set(
        names
    )
    for model in KNOWN_MODELS:
        assert model.kind in KINDS and model.kind in FOLDERS and "/" not in model.name
        assert model.sources and all(source.startswith("https://") for source in model.sources)
        assert model.file is None or model.variant is None
        assert set(model.sha256) <= {model.file} and all(len(each) == 64 for each in model.sha256.values())
        assert model.revision is None or len(model.revision) == 40
        assert (model.defaults is None) == (model.kind != "model") == (model.side is None)
        assert model.as_json()["memory"]["bf16"] == 2 * sum(model.parameters.values())


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        ("sd15", 2.13e9),
        ("sdxl", 6.94e9),
        ("sd-turbo", 1.73e9 + 0.68e9 + 0.167e9),
        ("sdxl-turbo", 5.14e9 + 0.246e9 + 1.39e9 + 0.167e9),
        ("lcm-dreamshaper", 3.44e9 + 0.492e9 + 0.335e9),
        ("sd15-inpainting", 1.72e9 + 0.246e9 + 0.167e9),
        ("taesd", 9.8e6),
        ("sd15-canny", 723e6),
    ],
)
def test_sizes_agree_with_what_the_hubs_pages_state(name, stated):
    assert known(name).download_bytes == pytest.approx(stated, rel=0.005)


@pytest.mark.parametrize(
    ("case", "changes", "count"),
    [
        ("SD 1.5 UNet", {}, SD1_UNET),
        ("SD 1.5 UNet", {"in_channels": 9}, SD1_UNET + INPAINTING_INPUT),
        ("SD 1.5 UNet", {"time_cond_proj_dim": 256}, SD1_UNET + LCM_CONDITION),
        ("SD 2.1 UNet", {}, SD2_UNET),
        ("SDXL UNet", {}, XL_UNET),
        ("SD 1.5 autoencoder", {}, AUTOENCODER),
    ],
)
def test_parameter_counts_are_those_of_the_references(case, changes, count):
    settings = CASES[case].settings
    kind = AutoencoderKL if CASES[case].component == "vae" else UNet2DConditionModel
    with torch.device("meta"):
        network = kind(**{**settings, **changes})
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize(
    ("case", "count"),
    [("CLIP ViT-L/14", CLIP_L), ("OpenCLIP ViT-H/14", CLIP_H), ("OpenCLIP ViT-bigG/14", CLIP_G)],
)
def test_parameter_counts_of_text_encoders(case, count):
    settings = CASES[case].settings
    kind = CLIPTextModelWithProjection if "projection_dim" in settings else CLIPTextModel
    with torch.device("meta"):
        network = kind(CLIPTextConfig(vocab_size=VOCABULARY, eos_token_id=END, **settings))
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_parameter_counts_of_what_stands_beside_a_model():
    with torch.device("meta"):
        tiny, edges = AutoencoderTiny(), ControlNetModel(cross_attention_dim=768)
    for network, name, part in ((tiny, "taesd", "vae"), (edges, "sd15-canny", "controlnet")):
        assert sum(each.numel() for each in network.parameters()) == known(name).parameters[part]


@pytest.mark.parametrize(
    ("name", "scheduler", "told"),
    [
        ("sd15", "", False),
        ("sdxl", "", False),
        ("sd15-inpainting", "PNDMScheduler", False),
        ("sd-turbo", "EulerDiscreteScheduler", False),
        ("sdxl-turbo", "EulerAncestralDiscreteScheduler", False),
        ("lcm-dreamshaper", "LCMScheduler", True),
    ],
)
def test_the_settings_are_those_that_a_drawing_takes(name, scheduler, told):
    found = find_few_steps(takes_guidance=told, classes=("", scheduler), titles={}, name=name)
    assert (DEFAULTS if found is None else found.defaults) == known(name).defaults


def test_names_are_found_in_any_case_and_others_are_refused():
    assert find_known("SD15") is known("sd15") and find_known("someone/tiny") is None
    with pytest.raises(InvalidRequest, match=r"'sd51' is not the name of a known model \(similar: 'sd15'\)"):
        known("sd51")


def test_a_pinned_file_is_fetched_and_found_by_its_short_name(hub, tmp_path):
    model, content = single()
    hub.repo, hub.files = model.repo, {FILE: content}
    pull = plan_known(model, tmp_path)
    assert find_pulled(model, tmp_path) is None and already_pulled(pull) is None
    list(fetch(pull))
    path = install(pull)
    assert path == tmp_path / "checkpoints" / "sd15.safetensors" and path.read_bytes() == content
    assert find("sd15", [tmp_path]) == path
    record = read_record(path)
    assert (record["known"], record["commit"], record["files"]) == ("sd15", COMMIT, dict(model.sha256))
    asked = len(hub.log)
    hub.commit = "f" * 40  # what the hub has now does not matter any more
    assert find_pulled(model, tmp_path) == path and len(hub.log) == asked
    path.unlink()  # by hand: the record beside it is none of a model then
    assert find_pulled(model, tmp_path) is None


def test_another_hash_than_the_catalogues_is_refused_before_anything_is_fetched(hub, tmp_path):
    model, content = single()
    hub.repo, hub.files = model.repo, {FILE: content + b"x"}
    with pytest.raises(HubError, match=r"states another hash for .* has for 'sd15' .* nothing is downloaded"):
        plan_known(model, tmp_path)
    with pytest.raises(HubError, match="another hash"):
        plan_known(known("sd15"), tmp_path)  # the real one
    assert hub.requests("store") == [] and list(tmp_path.iterdir()) == []


def test_bytes_that_are_not_those_of_the_hash_are_removed(hub, tmp_path):
    model, content = single()
    hub.repo, hub.files, hub.damaged = model.repo, {FILE: content}, {FILE}
    pull = plan_known(model, tmp_path)
    with pytest.raises(HubError, match="the download was damaged and has been removed"):
        list(fetch(pull))
    assert not [path for path in tmp_path.rglob("*.safetensors*") if path.is_file() and path.stat().st_size]


def test_a_folder_without_hashes_records_those_that_the_hub_states(hub, tmp_path):
    model = known("lcm-dreamshaper")
    hub.repo = model.repo
    pull = plan_known(model, tmp_path)
    list(fetch(pull))
    path = install(pull)
    assert path == tmp_path / "diffusers" / "lcm-dreamshaper" == find_pulled(model, tmp_path)
    stated = read_record(path)["files"]
    assert (
        stated["unet/diffusion_pytorch_model.safetensors"]
        == hashlib.sha256(hub.files["unet/diffusion_pytorch_model.safetensors"]).hexdigest()
    )


def test_a_pinned_commit_is_the_one_that_is_asked_for(hub, tmp_path):
    model = replace(known("sd15-inpainting"), variant=None)
    hub.repo, hub.commit = model.repo, model.revision
    assert plan_known(model, tmp_path).model.commit == model.revision
    hub.commit = "f" * 40
    with pytest.raises(HubError, match=f"has no revision '{model.revision}'"):
        plan_known(model, tmp_path)


def test_something_else_under_the_name_is_not_taken_for_the_pulled_one(hub, tmp_path):
    model, content = single()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "sd15.safetensors").write_bytes(b"mine")
    hub.repo, hub.files = model.repo, {FILE: content}
    assert find_pulled(model, tmp_path) is None
    with pytest.raises(OutputError, match="from another commit or with other files"):
        already_pulled(plan_known(model, tmp_path))
