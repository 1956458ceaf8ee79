"""Textual inversion: only the word's vectors are trained, and other programs can read them."""

import re
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from pochade.adapters.embeddings import TABLE, read_embedding
from pochade.checkpoints import safetensors
from pochade.errors import InvalidRequest
from pochade.pipeline.loader import load
from pochade.training.data.examples import BucketedSet
from pochade.training.data.tokenizing import tokenize_with, tokenize_with_word
from pochade.training.loop import averaged
from pochade.training.losses.inversion import VECTORS
from pochade.training.textual_inversion import (
    WITHOUT,
    Inversion,
    NewWord,
    TemplatedExamples,
    _templates,
    export_embedding,
    inversion_stage,
    open_folder,
)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures and a file that is none; one of them has a caption beside it."""
    folder = tmp_path_factory.mktemp("mine")
    Image.new("RGB", (140, 128), "navy").save(folder / "a.png")
    Image.new("RGBA", (128, 128), (200, 0, 0, 90)).save(folder / "b.webp")
    (folder / "notes.md").write_text("not a picture")
    return folder


@pytest.fixture
def inverted(model: Path, pictures: Path, tmp_path: Path) -> Inversion:
    word = NewWord(token="my-thing", initial="fox", vectors=2)
    return Inversion(word=word, pictures=open_folder(pictures), model=model, folder=tmp_path / "run")


def test_only_the_vectors_learn(inverted: Inversion, model: Path) -> None:
    tokenizer = load(model, engine="numpy").tokenizers[0]
    stage = inversion_stage(inverted, batch=2, rate=1e-2)
    assert list(stage.parameters) == [VECTORS] and stage.parameters[VECTORS].shape == (2, 256)
    table = load(model, engine="numpy").networks.text_encoder.tensors[TABLE]
    ids = tokenizer.encode("fox")
    assert np.array_equal(stage.parameters[VECTORS][0].numpy(), np.asarray(table[ids[0]], np.float32))
    list(stage.train(3))
    assert list(averaged(inverted.folder)) == [VECTORS]
    assert not np.array_equal(averaged(inverted.folder)[VECTORS][0].numpy(), table[ids[0]])


def test_a_run_that_was_stopped_ends_with_the_same_bits(inverted: Inversion, tmp_path: Path) -> None:
    def run(name: str, *counts: int) -> torch.Tensor:
        at = replace(inverted, folder=tmp_path / name)
        for count in counts:
            stage = inversion_stage(at, batch=2)
            list(replace(stage, plan=replace(stage.plan, cooldown=1e-9)).train(count))
        return averaged(at.folder)[VECTORS]

    assert torch.equal(run("whole", 3), run("parts", 1, 3))


def test_what_is_written_is_read_here_and_by_diffusers(
    inverted: Inversion, model: Path, tmp_path: Path
) -> None:
    list(inversion_stage(inverted, batch=2, rate=0.5).train(2))
    path = tmp_path / "words" / "my-thing.safetensors"
    export_embedding(inverted.folder, "my-thing", path)
    learned = averaged(inverted.folder)[VECTORS].numpy()

    read = read_embedding(path, {"text_encoder": 256})
    assert read.names == ("my-thing",) and np.array_equal(read.vectors["text_encoder"], learned)
    pipeline = load(model, engine="numpy").with_library(embeddings=path.parent)
    words = ("a thing", "a my-thing")
    plain, other = (np.asarray(pipeline.txt2img(text, steps=1, seed=0).images[0]) for text in words)
    assert not np.array_equal(plain, other)

    theirs = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    theirs.load_textual_inversion(path)
    rows = theirs.tokenizer.convert_tokens_to_ids(["my-thing", "my-thing_1"])
    found = theirs.text_encoder.get_input_embeddings().weight.detach()[rows].float().numpy()
    assert np.abs(found - learned).max() < 1e-3
    assert list(safetensors.read(path)) == ["my-thing"]


def test_the_word_stands_for_its_tokens_wherever_it_is_written(model: Path) -> None:
    tokenizer = load(model, engine="numpy").tokenizers[0]
    tokenize = tokenize_with_word(tokenizer, "my-thing", range(7000, 7002))
    rows, end = tokenize(["a my-thing, flat style", "a fox", "my-thing"])
    around = [tokenizer.encode("a"), tokenizer.encode(", flat style")]
    assert rows[0, 1 : end[0]].tolist() == [*around[0], 7000, 7001, *around[1]]
    assert rows[2, 1:3].tolist() == [7000, 7001] and end[2] == 3
    plain, _ = tokenize_with(tokenizer)(["a fox"])
    assert np.array_equal(rows[1], plain[0])


def test_captions_and_templates(model: Path, pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "captioned"
    folder.mkdir()
    for name in ("a.png", "b.webp"):
        (folder / name).write_bytes((pictures / name).read_bytes())
        (folder / name).with_suffix(".txt").write_text(f"on {name[0]}\n")
    opened = open_folder(folder)
    assert [each.caption for each in opened.entries] == ["on a", "on b"]
    assert (opened.entries[0].width, opened.entries[0].height) == (140, 128)
    base = Inversion(
        word=NewWord(token="my-x", initial="a fox"), pictures=opened, model=model, folder=tmp_path
    )
    assert inversion_stage(base).parameters[VECTORS].shape[0] == 2
    silent = replace(
        base,
        word=replace(base.word, templates=("{name} {caption}",)),
        pictures=open_folder(pictures),
    )
    with pytest.raises(InvalidRequest, match=r"'a.png' has no text file"):
        inversion_stage(silent)


def test_a_caption_whose_name_is_written_with_accents_of_another_kind(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / unicodedata.normalize("NFD", "été.png")).write_bytes((pictures / "a.png").read_bytes())
    (tmp_path / unicodedata.normalize("NFC", "été.txt")).write_text("in summer")
    assert [each.caption for each in open_folder(tmp_path).entries] == ["in summer"]


def test_each_picture_is_said_what_its_own_caption_allows(
    pictures: Path, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One caption that is missing, or an ending in capitals, takes nothing from the others."""
    for name in ("a.png", "b.webp"):
        (tmp_path / name).write_bytes((pictures / name).read_bytes())
    (tmp_path / "c.PNG").write_bytes((pictures / "a.png").read_bytes())
    (tmp_path / "a.TXT").write_text("on a")
    (tmp_path / "b.txt").write_text("on b")
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7 what macOS puts beside files")
    (tmp_path / "._b.txt").write_bytes(b"\0\5\x16\7")
    (tmp_path / "d.heic").write_bytes(b"not read")
    opened = open_folder(tmp_path)
    assert [each.caption for each in opened.entries] == ["on a", "on b", ""]
    assert "not supported: d.heic" in capsys.readouterr().out
    word = NewWord(token="my-x", initial="fox")
    templates = _templates(word, opened)
    assert "1 of 3 pictures have no caption: c.PNG" in capsys.readouterr().out
    said = TemplatedExamples(
        shown=BucketedSet(latents=(torch.zeros(3, 1, 1, 1),), captions=(("on a", "on b", ""),)),
        token="my-x",
        templates=templates,
        without=WITHOUT,
    )
    rng = np.random.default_rng(0)
    heard = {text for _ in range(50) for text in said.batch(3, rng)[1]}
    assert heard == {"my-x, on a", "my-x, on b", *(each.replace("{name}", "my-x") for each in WITHOUT)}
    _templates(replace(word, templates=("a {name}",)), opened)
    assert "2 captions are not used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"token": "my-other"}, "token 'my-thing', not 'my-other'"),
        ({"initial": "cat"}, "initial word 'fox', not 'cat'"),
        ({"templates": ("a {name}",)}, "templates '', not 'a {name}'"),
    ],
)
def test_a_run_of_one_word_is_not_taken_for_another(
    inverted: Inversion, changes: dict[str, Any], words: str
) -> None:
    list(inversion_stage(inverted, batch=2).train(1))
    before = (inverted.folder / "state.safetensors").read_bytes()
    other = replace(inverted, word=replace(inverted.word, **changes))
    with pytest.raises(InvalidRequest, match=f"was started with {re.escape(words)}.*choose another folder"):
        inversion_stage(other, batch=2)
    assert (inverted.folder / "state.safetensors").read_bytes() == before
    list(inversion_stage(inverted, batch=2).train(2))  # what it was begun with goes on


def test_a_run_keeps_its_pictures(inverted: Inversion) -> None:
    list(inversion_stage(inverted, batch=2).train(1))
    shown = inverted.pictures
    inverse = replace(shown, pictures=tuple(255 - each for each in shown.pictures))
    told = replace(shown, entries=tuple(replace(each, caption="new") for each in shown.entries))
    for pictures in (inverse, told, replace(shown, entries=shown.entries[:1], pictures=shown.pictures[:1])):
        with pytest.raises(InvalidRequest, match="started with other pictures or captions"):
            inversion_stage(replace(inverted, pictures=pictures), batch=2)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"token": "../x"}, "is not a name"),
        ({"token": ""}, "is not a name"),
        ({"vectors": 0}, "vectors is 0; it must lie between 1 and"),
        ({"templates": ("a picture",)}, "lacks {name}"),
    ],
)
def test_words_that_cannot_be_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        NewWord(**{"token": "my-x", "initial": "fox", **values})


def test_words_and_folders_that_do_not_fit_are_refused(inverted: Inversion, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="'fox' is already a word of the model"):
        inversion_stage(replace(inverted, word=replace(inverted.word, token="fox")))
    with pytest.raises(InvalidRequest, match="initial word ' ' is empty"):
        inversion_stage(replace(inverted, word=replace(inverted.word, initial=" ")))
    with pytest.raises(InvalidRequest, match="holds no pictures"):
        open_folder(tmp_path)
    with pytest.raises(InvalidRequest, match="is not a folder"):
        open_folder(tmp_path / "absent")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InvalidRequest, match=r"broken\.png"):
        open_folder(tmp_path)
