"""ControlNets in files: in the original code's names and in diffusers'; configurations from shapes."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import save_file

from pochade.checkpoints.controlnet import read_controlnet
from pochade.configs.read_json import controlnet_config
from pochade.errors import InvalidCheckpoint
from pochade.loading.parameter_shapes import controlnet_shapes
from tests.reference import randomize
from tests.single_files import UNETS, ldm_unet

FAMILIES = ["SD 1.5", "SD 2.1", "SDXL"]


@pytest.fixture(scope="module", params=FAMILIES)
def theirs(request):
    unet = UNet2DConditionModel(**UNETS[request.param])
    return randomize(ControlNetModel.from_unet(unet))


def original_names(model):
    """Under the names of the code of Zhang et al., without their prefix."""
    state = model.state_dict()
    own = {name: value for name, value in state.items() if "controlnet_" not in name}
    copied = SimpleNamespace(config=model.config, state_dict=lambda: own)
    named = ldm_unet(copied)
    convolutions = ["conv_in", *(f"blocks.{i}" for i in range(6)), "conv_out"]
    for kind in ("weight", "bias"):
        for number, convolution in enumerate(convolutions):
            hint = f"controlnet_cond_embedding.{convolution}.{kind}"
            named[f"input_hint_block.{2 * number}.{kind}"] = state[hint]
        for number in range(len(model.controlnet_down_blocks)):
            named[f"zero_convs.{number}.0.{kind}"] = state[f"controlnet_down_blocks.{number}.{kind}"]
        named[f"middle_block_out.0.{kind}"] = state[f"controlnet_mid_block.{kind}"]
    assert len(named) == len(state)
    return named


def written(path, tensors):
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    return path


@pytest.mark.parametrize("prefix", ["control_model.", "", "diffusers"])
def test_a_file_says_the_same_as_the_folder(theirs, tmp_path, prefix):
    if prefix == "diffusers":
        path = written(tmp_path / "net.safetensors", theirs.state_dict())
    else:
        named = {prefix + name: value for name, value in original_names(theirs).items()}
        if prefix:
            named["model.diffusion_model.out.2.bias"] = torch.zeros(4)  # some come with the whole model
        path = written(tmp_path / "net.safetensors", named)
    theirs.save_pretrained(tmp_path / "folder")
    file, folder = read_controlnet(path), read_controlnet(tmp_path / "folder")
    assert controlnet_config(file.config) == controlnet_config(folder.config)
    assert set(file.tensors) == set(folder.tensors)
    assert all((file.tensors[name] == folder.tensors[name]).all() for name in folder.tensors)
    shapes = controlnet_shapes(controlnet_config(file.config))
    assert shapes == {name: tensor.shape for name, tensor in file.tensors.items()}


def test_a_pickle_is_read_too(theirs, tmp_path):
    torch.save({"state_dict": original_names(theirs)}, tmp_path / "net.pth")
    assert set(read_controlnet(tmp_path / "net.pth").tensors) == set(theirs.state_dict())


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("difference", "differences to a model's weights"),
        ("lora_controlnet", "a Control-LoRA"),
        ("body.0.weight", "a T2I-Adapter"),
        ("image_proj.proj.weight", "an IP-Adapter"),
        ("conv_in.weight", "none of its 1 tensors is named 'input_hint_block.0.weight'"),
    ],
)
def test_what_it_is_instead_is_named(tmp_path, name, fault):
    with pytest.raises(InvalidCheckpoint, match=fault):
        read_controlnet(written(tmp_path / "net.safetensors", {name: torch.zeros(2)}))


def test_an_unknown_tensor_is_named(theirs, tmp_path):
    tensors = {**original_names(theirs), "task.weight": torch.zeros(2)}
    with pytest.raises(InvalidCheckpoint, match=r"'task\.weight', which is not part"):
        read_controlnet(written(tmp_path / "net.safetensors", tensors))


def test_a_file_without_its_middle_is_named(theirs, tmp_path):
    state = theirs.state_dict().items()
    tensors = {name: value for name, value in state if not name.startswith("mid_block")}
    with pytest.raises(InvalidCheckpoint, match="0 parts in the middle"):
        read_controlnet(written(tmp_path / "net.safetensors", tensors))
