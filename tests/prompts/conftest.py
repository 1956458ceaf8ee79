"""Tokenizers with a small vocabulary, trained here and written in the layout of a model's folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

CORPUS = [
    "a red fox in the snow, highly detailed!!! 4k it's we'll don't you've",
    "the the the cat's pajamas 1234 a photograph of an astronaut riding a horse",
    "日本語 狐 雪 😀 🦊 café naïve élan, (masterpiece:1.2), best quality...",
]
START, END = "<|startoftext|>", "<|endoftext|>"


def flags(content: str, normalized: bool = True) -> dict[str, Any]:
    return {
        "content": content,
        "lstrip": False,
        "normalized": normalized,
        "rstrip": False,
        "single_word": False,
    }


@pytest.fixture(scope="session")
def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return (piece -> id, merges) in CLIP's layout: bytes, bytes at a word's end, merges, start, end."""
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"'s|'ll|'t|'ve|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"), "removed", True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet(), key=lambda letter: (letter != "!", letter))
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    trained.train_from_iterator(CORPUS * 10, trainer)
    pairs = [(left, right) for left, right in json.loads(trained.to_str())["model"]["merges"]]
    pieces = dict.fromkeys([*alphabet, *(f"{letter}</w>" for letter in alphabet)])
    pieces |= dict.fromkeys(left + right for left, right in pairs)
    pieces |= dict.fromkeys([START, END])
    return {piece: number for number, piece in enumerate(pieces)}, pairs


@pytest.fixture(scope="session")
def make_folder(
    vocabulary: tuple[dict[str, int], list[tuple[str, str]]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Write vocab.json, merges.txt and the given other files."""
    pieces, pairs = vocabulary

    def make(**tables: Any) -> Path:
        folder = tmp_path_factory.mktemp("tokenizer")
        (folder / "vocab.json").write_text(json.dumps(pieces, ensure_ascii=False), encoding="utf-8")
        lines = ["#version: 0.2", *(f"{left} {right}" for left, right in pairs)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for name, table in tables.items():
            (folder / f"{name}.json").write_text(json.dumps(table), encoding="utf-8")
        return folder

    return make


@pytest.fixture(scope="session")
def sd1_folder(make_folder: Callable[..., Path]) -> Path:
    """As SD 1.x: padded with the end token."""
    return _published(make_folder, pad=END)


@pytest.fixture(scope="session")
def sd2_folder(make_folder: Callable[..., Path]) -> Path:
    """As SD 2.x and the second tokenizer of SDXL: padded with "!", whose id is 0."""
    return _published(make_folder, pad="!")


def _published(make_folder: Callable[..., Path], pad: str) -> Path:
    typed = {"__type": "AddedToken"}
    return make_folder(
        special_tokens_map={
            "bos_token": flags(START),
            "eos_token": flags(END),
            "pad_token": pad,
            "unk_token": flags(END),
        },
        tokenizer_config={
            "add_prefix_space": False,
            "bos_token": typed | flags(START),
            "do_lower_case": True,
            "eos_token": typed | flags(END),
            "model_max_length": 77,
            "pad_token": pad,
            "tokenizer_class": "CLIPTokenizer",
            "unk_token": typed | flags(END),
        },
    )
