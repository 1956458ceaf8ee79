"""`pochade draw` with adapters and embeddings, on the starter."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pochade
from pochade.checkpoints import safetensors
from pochade.cli.main import main

DRAW = ["draw", "a red apple", "--steps", "2", "--seed", "1", "--size", "64x64"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ink.safetensors` for the starter's UNet, and `words/blob.safetensors`."""
    folder = tmp_path_factory.mktemp("files")
    checkpoint = pochade.load().checkpoint
    rng = np.random.default_rng(0)
    key = next(name for name in checkpoint.unet.tensors if name.endswith("attn2.to_v.weight"))
    outputs, inputs = checkpoint.unet.tensors[key].shape
    layer = f"unet.{key.removesuffix('.weight')}"
    safetensors.write(
        folder / "ink.safetensors",
        {
            f"{layer}.lora_B.weight": rng.standard_normal((outputs, 2), np.float32),
            f"{layer}.lora_A.weight": rng.standard_normal((2, inputs), np.float32),
        },
    )
    width = checkpoint.text_encoder.tensors["embeddings.token_embedding.weight"].shape[1]
    (folder / "words").mkdir()
    vectors = rng.standard_normal((2, width), np.float32)
    safetensors.write(folder / "words" / "blob.safetensors", {"emb_params": vectors})
    return folder


def drawn(tmp_path: Path, *options: object) -> Image.Image:
    output = tmp_path / f"out{len(list(tmp_path.iterdir()))}.png"
    assert main([*DRAW, "-o", str(output), *map(str, options)]) == 0
    with Image.open(output) as image:
        image.load()
        return image


def test_a_file_a_name_and_a_name_in_the_prompt_are_one(tmp_path: Path, files: Path) -> None:
    plain, by_file = drawn(tmp_path), drawn(tmp_path, "--lora", f"{files}/ink.safetensors:0.5")
    by_name = drawn(tmp_path, "--lora", "ink:0.5", "--lora-dir", files)
    output = tmp_path / "named.png"
    assert (
        main([DRAW[0], DRAW[1] + "<lora:ink:0.5>", *DRAW[2:], "--lora-dir", str(files), "-o", str(output)])
        == 0
    )
    with Image.open(output) as image:
        in_prompt = np.asarray(image)
        assert "<lora:ink:0.5>" in image.info["parameters"] and "Lora hashes: " in image.info["parameters"]
    assert not np.array_equal(by_file, plain)
    assert np.array_equal(by_file, by_name) and np.array_equal(by_file, in_prompt)


def test_a_new_word(tmp_path: Path, files: Path) -> None:
    words = drawn(tmp_path, "--negative", "blob", "--embeddings-dir", files / "words")
    assert "TI hashes: " in words.info["parameters"]
    assert not np.array_equal(words, drawn(tmp_path, "--negative", "blob"))


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--lora", "nowhere.safetensors:0.5"], "--lora nowhere.safetensors:0.5: there is no file 'nowhere"),
        (["--lora", "inc", "--lora-dir", "FILES"], "there is no 'inc' in the folder of adapters"),
        (["--lora", "FILES/ink.safetensors:nan"], "the weight of"),
        (["--lora", "FILES/words/blob.safetensors"], "its tensor 'emb_params' belongs to no layer"),
        (["--lora", "FILES"], "holds no adapter"),
        (["--negative", "<lora:ink:1>"], "no folder of adapters was given (--lora-dir)"),
        (["--embeddings-dir", "nowhere"], "the folder of embeddings 'nowhere' does not exist"),
    ],
)
def test_what_makes_no_sense(
    files: Path, options: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*DRAW, *(option.replace("FILES", str(files)) for option in options)]) == 1
    assert fault in capsys.readouterr().err
