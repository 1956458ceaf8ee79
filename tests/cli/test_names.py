"""Autoencoders, ControlNets, adapters and embeddings by name, in the folders of other programs too."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pochade.checkpoints import safetensors
from pochade.checkpoints.library import find, folders
from pochade.cli.main import main
from pochade.errors import InvalidCheckpoint
from pochade.settings import starter_folder

DRAW = ["draw", "--steps", "2", "--seed", "1", "--size", "64x64"]
LAYOUTS = {
    "A1111": ("models/VAE", "models/Lora", "models/ControlNet", "embeddings"),
    "its extension": ("models/VAE", "models/Lora", "extensions/sd-webui-controlnet/models", "embeddings"),
    "ComfyUI": ("models/vae", "models/loras", "models/controlnet", "models/embeddings"),
    "Pochade": ("vae", "loras", "controlnet", "embeddings"),
}


@pytest.fixture
def models(tmp_path: Path, files: Path, control_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models: the starter's autoencoder with a tint, an adapter, a ControlNet, two words."""
    root = tmp_path / "models-of-mine"
    vae, lora, control, words = (root / place for place in LAYOUTS["A1111"])
    shutil.copytree(starter_folder() / "vae", vae / "own-colours")
    weights = vae / "own-colours" / "diffusion_pytorch_model.safetensors"
    tensors = {name: np.array(tensor) for name, tensor in safetensors.read(weights).items()}
    tensors["decoder.conv_out.bias"] += np.array([0.3, 0, 0], tensors["decoder.conv_out.bias"].dtype)
    safetensors.write(weights, tensors)
    shutil.copytree(control_model, control / "edges")
    lora.mkdir(parents=True)
    shutil.copy(files / "ink.safetensors", lora)
    words.mkdir(parents=True)
    shutil.copy(files / "words" / "blob.safetensors", words)
    safetensors.write(words / "apple.safetensors", {"emb_params": np.ones((1, 768), np.float32)})
    monkeypatch.setenv("POCHADE_MODELS", str(root))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return root


def drawn(folder: Path, prompt: str, *options: object) -> tuple[Image.Image, str]:
    output = folder / f"out{len(list(folder.iterdir()))}.png"
    assert main([*DRAW, prompt, "-o", str(output), *map(str, options)]) == 0
    with Image.open(output) as image:
        image.load()
        return image.convert("RGB"), image.info["parameters"]


def test_names_in_place_of_paths(tmp_path: Path, models: Path) -> None:
    sketch = tmp_path / "sketch.png"
    Image.new("RGB", (64, 64), "white").save(sketch)
    control = next(path.parent for path in models.rglob("edges/config.json"))
    vae = next(path.parent for path in models.rglob("own-colours/config.json"))
    lora, words = next(models.rglob("ink.safetensors")), next(models.rglob("blob.safetensors"))
    drawing = ("--control", sketch, "--control-model")
    by_name, text = drawn(
        tmp_path, "a blob <lora:ink:0.8>", *drawing, "edges", "--vae", "own-colours",
    )  # fmt: skip
    by_path, _ = drawn(
        tmp_path, "a blob", *drawing, control, "--vae", vae, "--lora", f"{lora}:0.8",
        "--embeddings-dir", words.parent,
    )  # fmt: skip
    assert by_name == by_path
    assert "TI hashes: " in text and "Lora hashes: " in text and "Model: edges" in text
    assert (
        drawn(tmp_path, "a blob", *drawing, "edges", "--vae", "own-colours", "--lora", "ink:0.8")[0]
        == by_name
    )
    for other in (
        drawn(tmp_path, "a blob <lora:ink:0.8>"),
        drawn(tmp_path, "a blob", "--vae", "own-colours"),
    ):
        assert other[0] != by_name


def test_words_of_other_families_are_words(tmp_path: Path, models: Path) -> None:
    """In a folder for all models; one that was named for this drawing is an error."""
    _, text = drawn(tmp_path, "an apple")
    assert "TI hashes" not in text
    words = next(models.rglob("apple.safetensors")).parent
    assert main([*DRAW, "an apple", "--embeddings-dir", str(words)]) == 1


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (
            ["--vae", "own-colour"],
            "the autoencoder 'own-colour' does not exist; check the path. No autoencoder",
        ),
        (["--lora", "inc:0.5"], "the adapter 'inc' does not exist"),
        (["--control", "IN", "--control-model", "edgy"], "the ControlNet 'edgy' does not exist"),
    ],
)
def test_names_that_nothing_has(
    tmp_path: Path, models: Path, options: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "in.png")
    options = [str(tmp_path / "in.png") if option == "IN" else option for option in options]
    assert main([*DRAW, "a fox", *options]) == 1
    error = capsys.readouterr().err
    assert fault in error and "similar: '" in error


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(tmp_path: Path, layout: tuple[str, ...]) -> None:
    kinds = ("vae", "lora", "controlnet", "embedding")
    for kind, place in zip(kinds, layout, strict=True):
        (tmp_path / place / "deep").mkdir(parents=True)
        safetensors.write(tmp_path / place / "deep" / f"my-{kind}.safetensors", {"a": np.ones(1, np.float32)})
        assert find(f"my-{kind}", [tmp_path], kind) == tmp_path / place / "deep" / f"my-{kind}.safetensors"
        assert folders([tmp_path, tmp_path / "nowhere"], kind) == [tmp_path / place]


def test_one_name_for_two_kinds(tmp_path: Path) -> None:
    for folder, tensor in (("vae", "encoder.down.0.a"), ("loras", "lora_unet_a.lora_up.weight")):
        (tmp_path / folder).mkdir()
        safetensors.write(tmp_path / folder / "same.safetensors", {tensor: np.ones((2, 2), np.float32)})
    for kind, folder in (("vae", "vae"), ("lora", "loras")):
        assert find("same", [tmp_path], kind) == tmp_path / folder / "same.safetensors"
        assert folders([tmp_path, tmp_path / "nowhere"], kind) == [tmp_path / folder]
    with pytest.raises(InvalidCheckpoint, match="matches 2 models"):
        find("same", [tmp_path], "controlnet")
