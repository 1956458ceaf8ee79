"""Single files of every family, compared with diffusers' tensors and configurations, and invalid ones."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.loaders import single_file_utils as theirs

from pochade.checkpoints.contents import contents_of
from pochade.checkpoints.folder import Checkpoint
from pochade.checkpoints.keymaps import rename
from pochade.checkpoints.ldm import open_clip_rules
from pochade.checkpoints.read import read_checkpoint
from pochade.checkpoints.weight_files import open_tensors
from pochade.configs.read_json import autoencoder_config, text_encoder_config, unet_config
from pochade.errors import InvalidCheckpoint, InvalidRequest
from pochade.tools.inspect import components, facts, verify
from tests.single_files import (
    UNETS,
    State,
    ldm_state,
    ldm_unet,
    ldm_vae,
    only_average,
    save,
    with_average,
    without,
)

torch.set_num_threads(1)

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


def tensors_of(model: torch.nn.Module, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    named = model.state_dict().items()
    return {name.removeprefix("text_model."): value.to(dtype).float().numpy() for name, value in named}


def assert_same(checkpoint: Checkpoint, pipeline: Any, dtype: torch.dtype = torch.float32) -> None:
    """Every tensor of every network, and every configuration that was detected."""
    readers = (unet_config, autoencoder_config, text_encoder_config, text_encoder_config)
    found = {each.name: each for each in components(checkpoint)}
    for part, reader in zip(PARTS, readers, strict=True):
        model, component = getattr(pipeline, part, None), found.get(part)
        assert (model is None) == (component is None)
        if model is None:
            continue
        expected = tensors_of(model, dtype)
        assert set(component.tensors) == set(expected)
        for name, tensor in expected.items():
            np.testing.assert_array_equal(component.tensors[name].astype(np.float32), tensor, err_msg=name)
        json_of = model.config.to_dict() if hasattr(model.config, "to_dict") else dict(model.config)
        if part.startswith("text"):
            json_of["architectures"] = [type(model).__name__]
        assert reader(component.config) == reader(json_of)


@pytest.mark.parametrize("family", UNETS)
def test_every_family(whole, family):
    made = whole(family)
    checkpoint = read_checkpoint(made.file())
    assert_same(checkpoint, made.theirs)
    assert checkpoint.name == "model"
    assert checkpoint.scheduler["prediction_type"] == made.theirs.scheduler.config.prediction_type
    assert checkpoint.model_index["_class_name"] == type(made.theirs).__name__


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", ["SD 1.5", "SD 2.1", "SDXL"])
def test_16_bits(whole, family, dtype):
    made = whole(family)
    assert_same(read_checkpoint(made.file(dtype=dtype)), made.theirs, dtype)


@pytest.mark.parametrize("edition", [with_average, only_average], ids=["both", "average alone"])
@pytest.mark.parametrize("family", ["SD 1.5", "SD 2.1", "SDXL", "LCM"])
def test_averaged_weights(whole, family, edition):
    """Where both are there the plain ones are taken, and the others where they are alone."""
    made = whole(family)
    assert_same(read_checkpoint(made.file(edition)), made.theirs)


def test_the_helper_writes_what_diffusers_read(whole):
    """What the other tests read is a single file indeed: diffusers' own converters agree."""
    for family in ("SD 1.5", "inpainting", "SD 2.1", "SDXL"):
        pipeline = whole(family).theirs
        state = ldm_state(pipeline)
        unet = theirs.convert_ldm_unet_checkpoint(dict(state), dict(pipeline.unet.config))
        expected = pipeline.unet.state_dict()
        assert set(unet) == set(expected)
        assert all(torch.equal(unet[name], expected[name]) for name in expected)
        vae = theirs.convert_ldm_vae_checkpoint(dict(state), dict(pipeline.vae.config))
        expected = pipeline.vae.state_dict()
        assert set(vae) == set(expected)
        assert all(torch.equal(vae[name], expected[name]) for name in expected)


def renumbered(state: State) -> State:
    """As a pruned model is numbered whose blocks kept the numbers that they had before."""

    def number(found: re.Match[str]) -> str:
        row, old = found[1], int(found[2])
        return f"{row}_blocks.{old if old == 0 else 2 * old + 1}."

    return {re.sub(r"(input|output)_blocks\.(\d+)\.", number, name): value for name, value in state.items()}


def test_a_pruned_model_with_gaps_in_its_numbers(whole):
    made = whole("BK-SDM")
    path = made.file(renumbered)
    assert any("input_blocks.11." in name for name in open_tensors(path))
    assert_same(read_checkpoint(path), made.theirs)


def test_text_keys_without_their_prefix(whole):
    made = whole("SD 1.5")
    state = ldm_state(made.theirs)
    path = save({name.replace("text_model.", ""): value for name, value in state.items()}, made.folder / "x")
    assert_same(read_checkpoint(path), made.theirs)


def test_a_file_that_left_out_the_unused_layer(whole):
    """OpenCLIP has 24 layers; where 23 are there, all are used."""
    made = whole("SD 2.1")
    layers = "cond_stage_model.model.transformer.resblocks."
    state = {name: value for name, value in ldm_state(made.theirs).items() if not name.startswith(layers)}
    tiny = {"attn.in_proj_weight": (384, 128), "mlp.c_fc.weight": (96, 128), "ln_1.weight": (128,)}
    for count, used in ((23, 23), (24, 23), (5, 4)):
        more = {
            f"{layers}{i}.{name}": torch.zeros(shape) for i in range(count) for name, shape in tiny.items()
        }
        checkpoint = read_checkpoint(save({**state, **more}, made.folder / "layers"))
        assert checkpoint.text_encoder.config["num_hidden_layers"] == used
        assert f"encoder.layers.{used}.layer_norm1.weight" not in checkpoint.text_encoder.tensors


# --- left-overs and projections of text encoders ----------------------------------------------------------

PREFIXES = {
    "SD 1.5": ("cond_stage_model.", "cond_stage_model.transformer."),
    "SD 2.1": ("cond_stage_model.", "cond_stage_model.model."),
    "SDXL": (
        "conditioner.embedders.0.",
        "conditioner.embedders.0.transformer.",
        "conditioner.embedders.1.",
        "conditioner.embedders.1.model.",
    ),
    "refiner": ("conditioner.embedders.0.", "conditioner.embedders.0.model."),
}
LEFT_OVERS = {
    "transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
    "text_model.embeddings.position_ids": torch.arange(77)[None].float(),
    "embeddings.position_ids": torch.arange(77),
    "position_ids": torch.arange(77)[None].half(),
    "logit_scale": torch.tensor(4.6),
    "logit_bias": torch.tensor(-10.0),
    "attn_mask": torch.zeros(77, 77),
}


@pytest.mark.parametrize("family", PREFIXES)
def test_left_overs_under_any_prefix(whole, family):
    """XL files that ComfyUI saved in 2023 have `position_ids` among OpenCLIP's names; SD 2 files too."""
    made = whole(family)
    more = {
        f"{prefix}{name}": value.clone() for prefix in PREFIXES[family] for name, value in LEFT_OVERS.items()
    }
    path = made.file(lambda state: {**more, **state})
    checkpoint = read_checkpoint(path)
    assert_same(checkpoint, made.theirs)
    assert sum(verify(checkpoint)) == sum(part.bytes for part in facts(checkpoint).parts)
    assert contents_of(path).family.startswith(read_family(family))


@pytest.mark.parametrize("family", PREFIXES)
@pytest.mark.parametrize("name", ["text_projection", "text_projection.weight"])
def test_a_projection_beside_an_encoder(whole, family, name):
    made = whole(family)
    more = {f"{PREFIXES[family][0]}{name}": torch.ones(64, 64)}
    assert_same(read_checkpoint(made.file(lambda state: {**state, **more})), made.theirs)


def read_family(family: str) -> str:
    return {"SD 1.5": "SD 1.x", "SD 2.1": "SD 2.x", "refiner": "SDXL refiner"}.get(family, family)


@pytest.mark.parametrize("family", ["SD 1.5", "SD 2.1", "SDXL"])
def test_the_half_of_clip_that_reads_pictures(whole, family):
    made = whole(family)
    more = {
        f"{PREFIXES[family][-1]}{name}": torch.ones(2, 2)
        for name in (
            "visual.proj",
            "vision_model.encoder.layers.0.mlp.fc1.weight",
            "visual_projection.weight",
        )
    }
    assert_same(read_checkpoint(made.file(lambda state: {**state, **more})), made.theirs)


@pytest.mark.parametrize("family", ["SDXL", "refiner"])
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("text_projection", lambda stored: stored),  # OpenCLIP's: (width, projected)
        ("text_projection", lambda stored: stored.T),
        ("text_projection.weight", lambda stored: stored.T),  # transformers': (projected, width)
        ("text_projection.weight", lambda stored: stored),
        ("transformer.text_projection.weight", lambda stored: stored.T),
    ],
)
def test_a_projection_stored_either_way(whole, family, name, change):
    """Its sides differ here, 128 by 96, and tell how it lies whatever it is called."""
    made = whole(family)
    prefix = PREFIXES[family][-1]

    def edition(state: State) -> State:
        state = dict(state)
        state[prefix + name] = change(state.pop(f"{prefix}text_projection")).contiguous()
        return state

    assert_same(read_checkpoint(made.file(edition)), made.theirs)


@pytest.mark.parametrize(("name", "turned"), [("text_projection", True), ("text_projection.weight", False)])
def test_a_square_projection_is_told_by_its_name(name, turned):
    """bigG's is 1280 by 1280."""
    stored = np.arange(16, dtype=np.float32).reshape(4, 4)
    (tensor,) = rename({name: stored}, open_clip_rules(projection=True, width=4), "x", strict=True).values()
    np.testing.assert_array_equal(tensor, stored.T if turned else stored)


@pytest.mark.parametrize("name", ["text_projection", "text_projection.weight"])
def test_a_projection_that_sd_2_does_not_read(whole, name):
    made = whole("SD 2.1")
    more = {f"cond_stage_model.model.{name}": torch.ones(128, 64)}
    assert_same(read_checkpoint(made.file(lambda state: {**state, **more})), made.theirs)


# --- the autoencoder --------------------------------------------------------------------------------------


def test_an_autoencoder_in_diffusers_names_inside_a_single_file(whole):
    """Some programs write it so, below the prefix that belongs to the other names."""
    made = whole("SD 1.5")
    names = {f"first_stage_model.{name}": value for name, value in made.theirs.vae.state_dict().items()}
    path = made.file(lambda state: {**without("first_stage_model.")(state), **names})
    checkpoint = read_checkpoint(path)
    assert_same(checkpoint, made.theirs)
    verify(checkpoint)


@pytest.mark.parametrize("form", ["prefixed file", "plain file", "diffusers file", "folder", "model folder"])
def test_an_autoencoder_from_elsewhere(whole, form, tmp_path):
    made = whole("SDXL")
    path = made.file(without("first_stage_model."))
    with pytest.raises(InvalidCheckpoint, match=r"holds no autoencoder .* vae=PATH.*--vae PATH.*of SDXL"):
        read_checkpoint(path)
    vae = made.theirs.vae
    state = ldm_vae(vae)
    if form == "prefixed file":
        given = save({f"first_stage_model.{name}": value for name, value in state.items()}, tmp_path / "a")
    elif form == "plain file":
        given = save({**state, "loss.logvar": torch.zeros(())}, tmp_path / "b")
    elif form == "diffusers file":
        given = save(vae.state_dict(), tmp_path / "c")
    else:
        given = tmp_path if form == "folder" else tmp_path / "vae"
        vae.save_pretrained(given)
        given = tmp_path
    assert_same(read_checkpoint(path, vae=given), made.theirs)


def test_an_autoencoder_beside_the_own_one_and_for_a_folder(whole, tmp_path):
    made = whole("SD 1.5")
    other = {name: value + 1 for name, value in ldm_vae(made.theirs.vae).items()}
    given = save(other, tmp_path / "vae.safetensors")
    made.theirs.save_pretrained(tmp_path / "folder")
    wanted = tensors_of(made.theirs.vae)["decoder.conv_in.bias"] + 1
    for path in (made.file(), tmp_path / "folder"):
        checkpoint = read_checkpoint(path, vae=given)
        np.testing.assert_array_equal(checkpoint.vae.tensors["decoder.conv_in.bias"], wanted)
        assert checkpoint.vae.files == (given,)
        assert checkpoint.vae.fingerprint != read_checkpoint(path).vae.fingerprint


def test_what_is_no_autoencoder(whole, tmp_path):
    made = whole("SD 1.5")
    given = save(ldm_unet(made.theirs.unet), tmp_path / "unet")
    with pytest.raises(InvalidCheckpoint, match=r"unet' holds no autoencoder: no tensor begins with"):
        read_checkpoint(made.file(), vae=given)


# --- what the UNet predicts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "keys", "metadata", "expected"),
    [
        ("SD 1.5", {}, {}, "epsilon"),
        ("SD 1.5", {"v_pred": torch.tensor([])}, {}, "v_prediction"),
        ("SD 1.5", {}, {"modelspec.prediction_type": "v"}, "v_prediction"),
        ("SDXL", {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}, {}, "v_prediction"),
        ("SDXL", {"v_pred": torch.tensor([])}, {"modelspec.prediction_type": "epsilon"}, "v_prediction"),
        ("SD 2.1", {}, {}, "v_prediction"),
        ("SD 2.1", {}, {"modelspec.architecture": "stable-diffusion-v2-512"}, "epsilon"),
        ("SD 2.1", {}, {"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, "v_prediction"),
        ("SD 2 inpainting", {}, {}, "epsilon"),
    ],
)
def test_prediction(whole, family, keys, metadata, expected):
    path = whole(family).file(lambda state: {**state, **keys}, metadata=metadata)
    checkpoint = read_checkpoint(path)
    assert checkpoint.scheduler["prediction_type"] == expected
    assert checkpoint.scheduler["rescale_betas_zero_snr"] == ("ztsnr" in keys)
    other = "epsilon" if expected == "v_prediction" else "v_prediction"
    assert read_checkpoint(path, prediction=other).scheduler["prediction_type"] == other
    given = read_checkpoint(path, config={"scheduler": {"prediction_type": other}})
    assert given.scheduler["prediction_type"] == other


def test_an_unknown_prediction_and_arguments_that_do_not_fit(whole, tmp_path):
    path = whole("SD 1.5").file()
    with pytest.raises(InvalidRequest, match=r"prediction 'x0' is unknown; one of: epsilon, v_prediction"):
        read_checkpoint(path, prediction="x0")
    with pytest.raises(InvalidRequest, match=r"variant 'fp16' was requested, but .* is one file"):
        read_checkpoint(path, variant="fp16")
    whole("SD 1.5").theirs.save_pretrained(tmp_path)
    with pytest.raises(InvalidRequest, match=r"config was given, but .* is a diffusers folder"):
        read_checkpoint(tmp_path, config={})


# --- configurations that say otherwise --------------------------------------------------------------------


def test_what_tensors_do_not_tell_can_be_given(whole, tmp_path):
    path = whole("SD 1.5").file()
    changed = read_checkpoint(path, config={"unet": {"attention_head_dim": 4, "norm_num_groups": 16}})
    assert unet_config(changed.unet.config).heads == (4, 4, 4)
    assert changed.unet.fingerprint != read_checkpoint(path).unet.fingerprint
    assert read_checkpoint(path, config={"unet": {"sample_size": None}}).vae.config["sample_size"] == 256
    (tmp_path / "words").mkdir()
    (tmp_path / "c.json").write_text('{"vae": {"scaling_factor": 0.5}, "tokenizer": "words"}')
    changed = read_checkpoint(path, config=tmp_path / "c.json")
    assert autoencoder_config(changed.vae.config).scale == 0.5
    assert changed.tokenizer == tmp_path / "words"


def test_metadata_may_say_it_but_names_no_folders(whole):
    metadata = {"pochade.config": '{"unet": {"norm_num_groups": 16}, "tokenizer": "/etc"}'}
    checkpoint = read_checkpoint(whole("SD 1.5").file(metadata=metadata))
    assert unet_config(checkpoint.unet.config).groups == 16
    assert checkpoint.tokenizer is None
    given = read_checkpoint(whole("SD 1.5").file(metadata=metadata), config={"unet": {"norm_num_groups": 8}})
    assert unet_config(given.unet.config).groups == 8


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"u-net": {}}, r"configures 'u-net', which is not part of a model; parts are: unet, vae"),
        ({"unet": 3}, r"'unet' is 3; expected a table"),
        ({"tokenizer": {}}, r"'tokenizer' is \{\}; expected the path of a folder"),
        ({"scheduler": {"prediction_type": []}}, r"prediction_type is \[\]; one of: epsilon, v_pred"),
        ({"unet": {"sample_size": "64"}}, r"sample_size = '64' is not a positive whole number"),
    ],
)
def test_wrong_configurations(whole, config, message):
    with pytest.raises(InvalidCheckpoint, match=message):
        read_checkpoint(whole("SD 1.5").file(), config=config)


# --- files that are something else ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["model.diffusion_model.input_blocks.0.0.weight"], r"a UNet without its text encoder and autoenc"),
        (
            ["input_blocks.0.0.weight", "out.0.bias"],
            r"is only a UNet: text encoder and autoencoder are miss",
        ),
        (["conv_in.weight", "down_blocks.0.x"], r"with diffusers' names: .* are missing; put it into a diff"),
        (["encoder.down.0.block.0.norm1.bias"], r"is only an autoencoder; give it as vae="),
        (["first_stage_model.encoder.conv_in.bias"], r"is only an autoencoder; give it as vae="),
        (["lora_unet_down_blocks_0.alpha"], r"is a LoRA"),
        (["control_model.x"], r"is a ControlNet"),
        (["controlnet_mid_block.weight"], r"is a ControlNet"),
        (["emb_params"], r"is a textual inversion"),
        (["body.0.rdb1.conv1.weight"], r"is an upscaler; give it as --hires-upscaler"),
        (["model.diffusion_model.double_blocks.0.x"], r"is a Flux model"),
        (["model.diffusion_model.joint_blocks.0.x"], r"is Stable Diffusion 3"),
        (["model.diffusion_model.out.0.bias", "edm_mean"], r"has EDM preconditioning"),
        (["something.else"], r"none of its 1 tensors begins with 'model\.diffusion_model\.' .*'something"),
    ],
)
def test_what_is_no_checkpoint(names, message, tmp_path):
    path = save({name: torch.ones(2, 2) for name in names}, tmp_path / "x.safetensors")
    with pytest.raises(InvalidCheckpoint, match=message):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "name",
    [
        "model.diffusion_model.input_blocks.1.0.adapter.weight",
        "model.diffusion_model.input_blocks.99.0.in_layers.0.weight",
        "first_stage_model.encoder.surprise.weight",
        "cond_stage_model.surprise.weight",
        "cond_stage_model.model.transformer.resblocks.0.surprise",
    ],
)
def test_an_unknown_tensor_is_named(whole, name):
    family = "SD 2.1" if ".model.transformer" in name else "SD 1.5"
    path = whole(family).file(lambda state: {**state, name: torch.ones(1)}, name="unknown")
    with pytest.raises(InvalidCheckpoint, match=rf"unknown' holds the tensor '{re.escape(name)}', which is"):
        read_checkpoint(path)


def test_what_lies_beside_a_model_is_left_alone(whole):
    more = {
        "optimizer_states.0": torch.ones(1),
        "global_step": torch.ones(1),
        "cond_stage_model.logit_scale": torch.ones(1),
        "cond_stage_model.transformer.text_projection.weight": torch.ones(1),
    }
    made = whole("SD 1.5")
    assert_same(read_checkpoint(made.file(lambda state: {**state, **more})), made.theirs)


def test_a_missing_tensor(whole):
    gone = "model.diffusion_model.input_blocks.0.0.weight"
    path = whole("SD 1.5").file(without(gone), name="missing")
    with pytest.raises(InvalidCheckpoint, match=r"missing' lacks the tensor 'conv_in\.weight'"):
        read_checkpoint(path)


def test_nothing_is_read_before_it_is_used(whole):
    """Fused queries, keys and values come apart as views of the mapped file."""
    checkpoint = read_checkpoint(whole("SD 2.1").file())
    layer = checkpoint.text_encoder.tensors
    query, key = (layer[f"encoder.layers.0.self_attn.{name}_proj.weight"] for name in "qk")
    assert key.ctypes.data - query.ctypes.data == query.nbytes


def test_a_path_that_is_not_there(tmp_path: Path):
    with pytest.raises(InvalidCheckpoint, match=r"nowhere\.safetensors' does not exist; check the path"):
        read_checkpoint(tmp_path / "nowhere.safetensors")
