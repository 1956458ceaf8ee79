"""`pochade draw` with adapters and embeddings, on the starter."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pochade.cli.main import main

DRAW = ["draw", "a red apple", "--steps", "2", "--seed", "1", "--size", "64x64"]


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
        (["--lora", "nowhere.safetensors:0.5"], "the adapter 'nowhere.safetensors' does not exist"),
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
