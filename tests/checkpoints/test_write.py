"""Writing components: atomic, and readable by Pochade, diffusers and transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel

from pochade.checkpoints import safetensors
from pochade.checkpoints.folder import read_component
from pochade.checkpoints.write import write_component, write_json
from pochade.errors import OutputError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def numpy_state(module: torch.nn.Module) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def test_diffusers_load_what_we_write(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    write_component(tmp_path / "vae", dict(vae.config), numpy_state(vae))
    assert names(tmp_path) == ["vae"]
    assert names(tmp_path / "vae") == ["config.json", "diffusion_pytorch_model.safetensors"]
    back = AutoencoderKL.from_pretrained(tmp_path / "vae")
    for name, tensor in vae.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name


def test_transformers_load_what_we_write(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=50, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    model = CLIPTextModel(config)
    write_component(tmp_path / "te", config.to_dict(), numpy_state(model), "model.safetensors")
    back = CLIPTextModel.from_pretrained(tmp_path / "te")
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name


def test_a_component_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "unet"
    write_component(folder, {"a": 1}, {"x": np.ones(2, np.float32)}, metadata={"step": "100"})
    assert safetensors.read(folder / "diffusion_pytorch_model.safetensors").metadata == {
        "format": "pt",
        "step": "100",
    }
    old = read_component(folder, "unet")
    # The new weights are computed from the mapped old ones while these are being replaced.
    write_component(folder, {"a": 2}, {"y": old.tensors["x"]}, "model.safetensors")
    new = read_component(folder, "unet")
    assert new.config == {"a": 2}
    assert {name: tensor.tolist() for name, tensor in new.tensors.items()} == {"y": [1, 1]}
    assert old.tensors["x"].tolist() == [1, 1]
    assert names(folder) == ["config.json", "model.safetensors"]
    assert names(tmp_path) == ["unet"]


def test_a_failure_leaves_the_old_component(tmp_path: Path) -> None:
    folder = tmp_path / "unet"
    write_component(folder, {"a": 1}, {"x": np.ones(2, np.float32)})
    with pytest.raises(OutputError, match=r"tensor 'x' of type complex128"):
        write_component(folder, {"a": 2}, {"x": np.ones(2, complex)})
    with pytest.raises(TypeError):
        write_component(folder, {"a": object()}, {"x": np.zeros(2)})
    assert read_component(folder, "unet").config == {"a": 1}
    assert names(tmp_path) == ["unet"]


def test_the_old_component_comes_back_if_the_last_step_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "unet"
    write_component(folder, {"a": 1}, {"x": np.ones(2, np.float32)})
    renames: list[Path] = []
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        renames.append(self)
        if len(renames) == 2:  # after the old one has moved away
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match=r"unet' could not be written: Input/output error"):
        write_component(folder, {"a": 2}, {"x": np.zeros(2, np.float32)})
    assert len(renames) == 3
    assert read_component(folder, "unet").config == {"a": 1}
    assert names(tmp_path) == ["unet"]


def test_a_folder_with_other_things_is_not_erased(tmp_path: Path) -> None:
    (tmp_path / "novel.txt").write_text("years of work")
    with pytest.raises(
        OutputError, match=r"holds 'novel\.txt', which is not part of a component; name a new"
    ):
        write_component(tmp_path, {}, {})
    assert names(tmp_path) == ["novel.txt"]


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "unet").write_text("")
    with pytest.raises(OutputError, match=r"unet' could not be written: Not a directory"):
        write_component(tmp_path / "unet", {}, {})


def test_write_json(tmp_path: Path) -> None:
    write_json(tmp_path / "model_index.json", {"b": 1, "a": [None, None]})
    assert (tmp_path / "model_index.json").read_text().startswith('{\n  "a": [\n')
    assert names(tmp_path) == ["model_index.json"]
