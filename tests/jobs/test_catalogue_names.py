"""Names in the server: the same rule as on the command line."""

from pathlib import Path

import numpy as np
import pytest

from pochade.checkpoints import safetensors
from pochade.errors import InvalidRequest
from pochade.jobs.catalogue import Catalogue, Folders, scan_folders


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    files = {
        "loras/styles/ink.safetensors": "lora_unet_conv_in.alpha",
        "loras/lines/ink.safetensors": "lora_unet_conv_in.alpha",
        "loras/oil.safetensors": "lora_unet_conv_in.alpha",
        "controlnet/sd15/Canny.safetensors": "control_model.x",
        "upscale_models/x4.safetensors": "body.0.rdb1.conv1.weight",
    }
    for name, key in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        safetensors.write(path, {key: np.ones(1, np.float32)})
    return scan_folders(Folders(roots=(tmp_path,)))


def test_every_name_that_is_listed_means_something(catalogue: Catalogue) -> None:
    assert catalogue.loras == ["lines/ink", "oil", "styles/ink"]
    for name in catalogue.loras:
        catalogue.check_prompt(f"a fox <lora:{name}:0.5>")


@pytest.mark.parametrize("name", ["OIL", "oil.safetensors", "Styles/Ink"])
def test_names_of_adapters(catalogue: Catalogue, name: str) -> None:
    catalogue.check_prompt(f"a fox <lora:{name}:0.5>")


def test_a_name_that_several_have(catalogue: Catalogue) -> None:
    with pytest.raises(
        InvalidRequest, match=r"LoRA name 'ink' is ambiguous \(2 files\); write one of: lines/ink, styles/ink"
    ):
        catalogue.check_prompt("a fox <lora:ink:0.5>")
    with pytest.raises(InvalidRequest, match=r"LoRA 'pen' is unknown; one of: lines/ink, oil, styles/ink"):
        catalogue.check_prompt("a fox <lora:pen:0.5>")


@pytest.mark.parametrize("name", ["sd15/Canny", "canny", "Canny.safetensors"])
def test_names_of_controlnets(catalogue: Catalogue, name: str) -> None:
    assert catalogue.controlnet(name).endswith("Canny.safetensors")


@pytest.mark.parametrize("name", ["x4", "X4", "x4.safetensors"])
def test_names_of_upscalers(catalogue: Catalogue, name: str) -> None:
    assert catalogue.upscaler(name).endswith("x4.safetensors")


def test_names_of_models(catalogue: Catalogue) -> None:
    assert catalogue.model("STARTER") is catalogue.model("starter")
    with pytest.raises(InvalidRequest, match="model 'none' is unknown"):
        catalogue.model("none")
