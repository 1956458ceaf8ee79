"""Files of a tokenizer: precedence, and errors for damaged ones."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import CLIPTokenizer

from pochade.errors import InvalidCheckpoint
from pochade.prompts.tokenizer_files import load_tokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
TEXTS = [f"A cat!! {END} {END.upper()} <Cat-Toy> <CAT-TOY><dog> {START}! the fox's", "!", "<dog>'s <DOG>"]


def _token(content: str, normalized: bool) -> dict[str, Any]:
    return {
        "content": content,
        "lstrip": False,
        "normalized": normalized,
        "rstrip": False,
        "single_word": False,
        "special": True,
    }


def _assert_like_transformers(folder: Path) -> None:
    reference, ours = CLIPTokenizer.from_pretrained(str(folder)), load_tokenizer(folder)
    assert (ours.start_id, ours.end_id, ours.pad_id, ours.unknown_id) == (
        reference.bos_token_id,
        reference.eos_token_id,
        reference.pad_token_id,
        reference.unk_token_id,
    )
    assert ours.max_length == min(reference.model_max_length, 77)
    for text in TEXTS:
        assert ours.encode(text) == reference(text, add_special_tokens=False)["input_ids"], text


def test_published_files(sd1_folder: Path, sd2_folder: Path) -> None:
    for folder in (sd1_folder, sd2_folder):
        _assert_like_transformers(folder)
    one, two = load_tokenizer(sd1_folder), load_tokenizer(sd2_folder)
    assert one.pad_id == one.end_id == two.end_id
    assert (two.pad_id, two.max_length) == (0, 77)


def test_vocabulary_and_merges_alone(make_folder: Callable[..., Path]) -> None:
    _assert_like_transformers(make_folder())


@pytest.mark.parametrize("family", ["sd1_folder", "sd2_folder"])
def test_files_as_transformers_5_saves_them(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    CLIPTokenizer.from_pretrained(str(request.getfixturevalue(family))).save_pretrained(str(tmp_path))
    assert not (tmp_path / "vocab.json").exists()
    _assert_like_transformers(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    _assert_like_transformers(tmp_path)


def test_listed_tokens_keep_their_flags(
    make_folder: Callable[..., Path], vocabulary: tuple[dict[str, int], object]
) -> None:
    ids = vocabulary[0]
    for normalized in (False, True):
        decoder = {
            str(ids[START]): _token(START, not normalized),
            str(ids[END]): _token(END, normalized),
            "0": _token("!", False),
        }
        folder = make_folder(
            tokenizer_config={"added_tokens_decoder": decoder, "pad_token": "!"},
            special_tokens_map={"pad_token": END},  # does not count beside such a listing
        )
        _assert_like_transformers(folder)
        assert load_tokenizer(folder).pad_id == 0


def test_tokens_added_by_textual_inversion(
    make_folder: Callable[..., Path], vocabulary: tuple[dict[str, int], object]
) -> None:
    count = len(vocabulary[0])
    folder = make_folder(added_tokens={"<Cat-Toy>": count, "<dog>": count + 1})
    _assert_like_transformers(folder)
    assert load_tokenizer(folder).encode("<dog><CAT-TOY>") == [count + 1, count]


def test_missing_folder_and_files(sd1_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match=r"nowhere' does not exist"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(InvalidCheckpoint, match=r"vocab\.json' is missing; download"):
        load_tokenizer(tmp_path)
    shutil.copy(sd1_folder / "vocab.json", tmp_path)
    with pytest.raises(InvalidCheckpoint, match=r"merges\.txt' is missing; download"):
        load_tokenizer(tmp_path)
    (tmp_path / "merges.txt").mkdir()
    with pytest.raises(InvalidCheckpoint, match=r"merges\.txt' cannot be read: Is a directory"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.json", b"{", r"vocab\.json' is not JSON"),
        ("vocab.json", b"[1]", r"vocab\.json' contains a list"),
        ("vocab.json", b"{}", r"holds no vocabulary"),
        ("vocab.json", b'{"a": "1"}', r"gives 'a' the id '1'"),
        ("vocab.json", b'{"a": true}', r"gives 'a' the id True"),
        ("vocab.json", b"\xff\xfe", r"is not UTF-8 text"),
        ("vocab.json", b'{"a": 0}', r"merge 1, .* lacks; the files are of different models"),
        ("merges.txt", b"#version: 0.2\na b c\n", r"merge 1 is \['a', 'b', 'c'\] instead of two"),
        ("merges.txt", b"h\n", r"merge 1 is \['h'\] instead of two"),
        ("merges.txt", b"q zz\n", r"merge 1, 'q' with 'zz', needs 'zz'"),
        ("merges.txt", b"\xff\xfe", r"is not UTF-8 text"),
        ("tokenizer.json", b'{"model": {"type": "Unigram"}}', r"holds no byte-pair encoding"),
        ("tokenizer.json", b'{"model": {"vocab": {"a": 0}, "merges": 3}}', r"'merges' is not a list"),
        ("tokenizer.json", b'{"model": {"vocab": {"a": 0}, "merges": [3]}}', r"merge 1 is 3"),
        ("tokenizer.json", b'{"model": {"vocab": {"a": 0}, "merges": []}}', r"as its bos_token, which"),
        ("tokenizer_config.json", b'{"model_max_length": "77"}', r"model_max_length to '77'"),
        ("tokenizer_config.json", b'{"model_max_length": 2}', r"model_max_length to 2; CLIP's is 77"),
        ("tokenizer_config.json", b'{"pad_token": "<pad>"}', r"names '<pad>' as its pad_token"),
        ("tokenizer_config.json", b'{"pad_token": 3}', r"names 3 as its pad_token"),
        ("tokenizer_config.json", b'{"added_tokens_decoder": {"x": "!"}}', r"'!' with the id 'x'"),
        (
            "special_tokens_map.json",
            b'{"pad_token": {"content": "!", "lstrip": true}}',
            r"'!' sets lstrip",
        ),
    ],
)
def test_damaged_files(name: str, content: bytes, message: str, sd1_folder: Path, tmp_path: Path) -> None:
    for file in ("vocab.json", "merges.txt"):
        shutil.copy(sd1_folder / file, tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidCheckpoint, match=message):
        load_tokenizer(tmp_path)


def test_windows_line_ends_in_merges(sd1_folder: Path, tmp_path: Path) -> None:
    shutil.copy(sd1_folder / "vocab.json", tmp_path)
    lines = (sd1_folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    (tmp_path / "merges.txt").write_bytes("\r\n".join(lines).encode() + b"\r\n\r\n")
    assert load_tokenizer(tmp_path).merges == load_tokenizer(sd1_folder).merges
    assert len(load_tokenizer(tmp_path).merges) == len(lines) - 1
