"""Reading diffusers folders: variants, shards, missing and damaged files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pochade.checkpoints import safetensors
from pochade.checkpoints.folder import read_component, read_folder
from pochade.checkpoints.keymaps import TEXT_ENCODER
from pochade.errors import InvalidCheckpoint

PLAIN = "diffusion_pytorch_model.safetensors"


def put(path: Path, value: float, names: tuple[str, ...] = ("x",)) -> None:
    """A weight file whose tensors hold one number."""
    safetensors.write(path, {name: np.full(3, value, np.float32) for name in names})


def test_a_folder_in_names_of_long_ago(model_folder: Path) -> None:
    checkpoint = read_folder(model_folder)
    assert checkpoint.name == "tiny-model"
    assert checkpoint.model_index["_class_name"] == "StableDiffusionPipeline"
    assert checkpoint.scheduler == {"num_train_timesteps": 1000}
    assert checkpoint.tokenizer == model_folder / "tokenizer"
    assert (checkpoint.text_encoder_2, checkpoint.tokenizer_2) == (None, None)
    assert checkpoint.unet.config == {"component": "unet"}
    assert checkpoint.unet.files == (model_folder / "unet" / PLAIN,)
    assert set(checkpoint.unet.tensors) == {"conv_in.weight", "conv_in.bias"}
    assert checkpoint.unet.tensors["conv_in.bias"].tolist() == [[2, 2], [2, 2]]
    assert set(checkpoint.vae.tensors) == {
        "encoder.mid_block.attentions.0.to_q.weight",
        "quant_conv.weight",
    }
    assert set(checkpoint.text_encoder.tensors) == {"final_layer_norm.weight"}
    fingerprints = {part.fingerprint for part in (checkpoint.unet, checkpoint.vae, checkpoint.text_encoder)}
    assert len(fingerprints) == 3


def test_the_second_encoder_of_sdxl(model_folder: Path) -> None:
    index = json.loads((model_folder / "model_index.json").read_text())
    index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
    (model_folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(
        InvalidCheckpoint, match=r"lists the component 'text_encoder_2' but has no such folder"
    ):
        read_folder(model_folder)
    shutil.copytree(model_folder / "text_encoder", model_folder / "text_encoder_2")
    with pytest.raises(InvalidCheckpoint, match=r"without the component 'tokenizer_2'"):
        read_folder(model_folder)
    index["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
    (model_folder / "model_index.json").write_text(json.dumps(index))
    (model_folder / "tokenizer_2").mkdir()
    checkpoint = read_folder(model_folder)
    assert checkpoint.text_encoder_2 is not None
    assert set(checkpoint.text_encoder_2.tensors) == {"final_layer_norm.weight"}
    assert checkpoint.tokenizer_2 == model_folder / "tokenizer_2"


def test_names_in_a_hugging_face_cache(model_folder: Path, tmp_path: Path) -> None:
    cached = tmp_path / "models--runwayml--stable-diffusion-v1-5" / "snapshots" / "0123abcd"
    cached.parent.mkdir(parents=True)
    shutil.move(model_folder, cached)
    assert read_folder(cached).name == "stable-diffusion-v1-5"


# --- what the libraries write ---------------------------------------------------------------------


def _same(ours: Any, theirs: dict[str, torch.Tensor]) -> None:
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor.numpy())


def _small_text_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=50,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=6,
    )


def test_diffusers_autoencoder_and_unet(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    vae.save_pretrained(tmp_path / "vae")
    ours = read_component(tmp_path / "vae", "vae")
    _same(ours.tensors, vae.state_dict())
    assert ours.config["block_out_channels"] == [8]
    unet = UNet2DConditionModel(
        block_out_channels=(8, 8),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=8,
        layers_per_block=1,
    )
    unet.save_pretrained(tmp_path / "unet", max_shard_size="20KB")
    sharded = read_component(tmp_path / "unet", "unet")
    assert len(sharded.files) > 2  # so it was sharded indeed
    _same(sharded.tensors, unet.state_dict())
    unet.to(torch.float16).save_pretrained(tmp_path / "unet", max_shard_size="20KB", variant="fp16")
    half = read_component(tmp_path / "unet", "unet", variant="fp16")
    assert len(half.files) > 1 and half.tensors["conv_in.weight"].dtype == np.float16
    _same(half.tensors, unet.state_dict())
    assert half.fingerprint != sharded.fingerprint


@pytest.mark.parametrize("kind", [CLIPTextModel, CLIPTextModelWithProjection])
def test_transformers_text_encoder(kind: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = kind(_small_text_config())
    model.save_pretrained(tmp_path / "text_encoder")
    ours = read_component(tmp_path / "text_encoder", "text_encoder", TEXT_ENCODER)
    wanted = {name.removeprefix("text_model."): tensor for name, tensor in model.state_dict().items()}
    _same(ours.tensors, wanted)
    assert "final_layer_norm.weight" in ours.tensors
    assert ("text_projection.weight" in ours.tensors) == (kind is CLIPTextModelWithProjection)


# --- variants and shards --------------------------------------------------------------------------


@pytest.fixture
def unet(tmp_path: Path) -> Path:
    folder = tmp_path / "unet"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def value(folder: Path, variant: str | None = None) -> float:
    return float(read_component(folder, "unet", variant=variant).tensors["x"][0])


def test_the_plain_file_is_preferred_and_a_variant_can_be_asked_for(unet: Path) -> None:
    put(unet / "diffusion_pytorch_model.fp16.safetensors", 16)
    assert value(unet) == 16
    put(unet / "diffusion_pytorch_model.non_ema.safetensors", 5)
    assert value(unet) == 16
    put(unet / PLAIN, 32)
    assert value(unet) == 32
    assert (value(unet, "fp16"), value(unet, "non_ema")) == (16, 5)
    with pytest.raises(
        InvalidCheckpoint, match=r"no weights of the variant 'bf16'; available: 'fp16', 'non_ema', the"
    ):
        value(unet, "bf16")


def test_an_only_variant_is_taken_and_a_choice_is_not_made_blindly(unet: Path) -> None:
    put(unet / "diffusion_pytorch_model.ema_only.safetensors", 5)
    assert value(unet) == 5
    put(unet / "diffusion_pytorch_model.non_ema.safetensors", 6)
    with pytest.raises(InvalidCheckpoint, match=r"available: 'ema_only', 'non_ema'"):
        value(unet)


def shards(unet: Path, index: str = f"{PLAIN}.index.json") -> dict[str, Any]:
    put(unet / "diffusion_pytorch_model-00001-of-00002.safetensors", 1, ("x", "y"))
    put(unet / "diffusion_pytorch_model-00002-of-00002.safetensors", 2, ("z",))
    table = {
        "metadata": {"total_size": 36},
        "weight_map": {
            "x": "diffusion_pytorch_model-00001-of-00002.safetensors",
            "y": "diffusion_pytorch_model-00001-of-00002.safetensors",
            "z": "diffusion_pytorch_model-00002-of-00002.safetensors",
        },
    }
    (unet / index).write_text(json.dumps(table))
    return table


@pytest.mark.parametrize(
    ("index", "variant"),
    [
        (f"{PLAIN}.index.json", None),
        (f"{PLAIN}.index.fp16.json", "fp16"),
        (f"{PLAIN}.fp16.index.json", "fp16"),
        ("model.safetensors.index.json", None),
    ],
)
def test_shards(index: str, variant: str | None, unet: Path) -> None:
    shards(unet, index)
    for asked in {None, variant}:
        component = read_component(unet, "unet", variant=asked)
        assert {name: tensor[0] for name, tensor in component.tensors.items()} == {"x": 1, "y": 1, "z": 2}
        assert list(component.files) == sorted(unet.glob("*-0000*.safetensors"))


def test_one_file_is_preferred_to_shards(unet: Path) -> None:
    shards(unet)
    put(unet / PLAIN, 32)
    assert value(unet) == 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.pop("weight_map"), r"has no 'weight_map'"),
        (lambda table: table.update(weight_map=["x"]), r"has no 'weight_map'"),
        (lambda table: table["weight_map"].update(x=3), r"has no 'weight_map'"),
        (lambda table: table["weight_map"].update(x="gone.safetensors"), r"shard 'gone\.safetensors' that"),
        (
            lambda table: table["weight_map"].update(w=table["weight_map"]["x"]),
            r"places tensor 'w' in 'diffusion_pytorch_model-00001",
        ),
        (
            lambda table: table["weight_map"].update(x=table["weight_map"]["z"]),
            r"places tensor 'x' in .*-00002",
        ),
        (
            lambda table: table["weight_map"].update(x="../evil.safetensors"),
            r"shard '\.\./evil\.safetensors'; a",
        ),
        (
            lambda table: table["weight_map"].update(x="/etc/evil.safetensors"),
            r"shard '/etc/evil\.safetensors'",
        ),
        (lambda table: table["weight_map"].update(x="..\\evil.safetensors"), r"shard '\.\.\\\\evil"),
        (lambda table: table["weight_map"].update(x="C:evil.safetensors"), r"shard 'C:evil"),
        (lambda table: table["weight_map"].update(x="model.pkl"), r"shard 'model\.pkl'; a shard is a"),
        (lambda table: table["weight_map"].update(x=""), r"shard ''; a shard is a"),
    ],
)
def test_a_wrong_index(change: Callable[[dict[str, Any]], Any], message: str, unet: Path) -> None:
    put(unet.parent / "evil.safetensors", 666)  # it is there, and must not be opened all the same
    table = shards(unet)
    change(table)
    (unet / f"{PLAIN}.index.json").write_text(json.dumps(table))
    with pytest.raises(InvalidCheckpoint, match=message):
        read_component(unet, "unet")


def test_a_tensor_in_two_shards(unet: Path) -> None:
    shards(unet)
    put(unet / "diffusion_pytorch_model-00002-of-00002.safetensors", 2, ("z", "x"))
    with pytest.raises(InvalidCheckpoint, match=r"tensor 'x' is in .* and in another shard"):
        read_component(unet, "unet")


def test_a_damaged_shard_is_named(unet: Path) -> None:
    shards(unet)
    (unet / "diffusion_pytorch_model-00002-of-00002.safetensors").write_bytes(b"\0" * 7)
    with pytest.raises(InvalidCheckpoint, match=r"00002-of-00002\.safetensors' .* it has 7 bytes"):
        read_component(unet, "unet")


def test_pickled_weights_are_the_last_choice(unet: Path) -> None:
    torch.save({"x": torch.full((3,), 7.0)}, unet / "diffusion_pytorch_model.bin")
    torch.save({"x": torch.full((3,), 8.0)}, unet / "diffusion_pytorch_model.fp16.bin")
    assert (value(unet), value(unet, "fp16")) == (7, 8)
    put(unet / PLAIN, 32)
    assert value(unet) == 32


def test_no_weights_at_all(unet: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match=r"unet' holds no weights; it needs diffusion_pytorch_model"):
        read_component(unet, "unet")


# --- what may be missing --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_component(name: str, model_folder: Path) -> None:
    shutil.rmtree(model_folder / name)
    with pytest.raises(
        InvalidCheckpoint, match=rf"lists the component '{name}' but has no such folder; download"
    ):
        read_folder(model_folder)


def test_a_model_of_another_kind(model_folder: Path) -> None:
    index = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    (model_folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(
        InvalidCheckpoint, match=r"is a FluxPipeline without the component 'unet'; only complete"
    ):
        read_folder(model_folder)


@pytest.mark.parametrize("entry", [[None, None], None, "unet", [], ["diffusers"]])
def test_a_component_that_was_left_out(entry: Any, model_folder: Path) -> None:
    index = json.loads((model_folder / "model_index.json").read_text())
    index["unet"] = entry
    (model_folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidCheckpoint, match=r"without the component 'unet'"):
        read_folder(model_folder)


@pytest.mark.parametrize(
    "file",
    [
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_missing_or_damaged_json_file(file: str, model_folder: Path) -> None:
    name = file.split("/")[1].replace(".", r"\.")
    for content, message in [(b"{", "is not JSON"), (b"[]", "contains a list"), (b"\xff", "is not JSON")]:
        (model_folder / file).write_bytes(content)
        with pytest.raises(InvalidCheckpoint, match=rf"{name}' {message}"):
            read_folder(model_folder)
    (model_folder / file).unlink()
    with pytest.raises(InvalidCheckpoint, match=rf"{name}' is missing; download all files"):
        read_folder(model_folder)


def test_no_folder_no_index(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match=r"nowhere' does not exist; check the path"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(InvalidCheckpoint, match=r"model_index\.json' is a file, not a model folder"):
        read_folder(model_folder / "model_index.json")
    (model_folder / "model_index.json").write_text("{")
    with pytest.raises(InvalidCheckpoint, match=r"model_index\.json' is not JSON"):
        read_folder(model_folder)
    (model_folder / "model_index.json").unlink()
    with pytest.raises(
        InvalidCheckpoint, match=r"tiny-model' has no model_index\.json, .*name the folder that"
    ):
        read_folder(model_folder)
    with pytest.raises(InvalidCheckpoint, match=r"the component 'unet' is missing: there is no folder"):
        read_component(tmp_path / "nowhere", "unet")
