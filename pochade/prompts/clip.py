"""CLIP's tokenizer, for single files, which do not contain one.

Stable Diffusion 1.x, 2.x and XL share this vocabulary of 49,408 tokens; only the padding token differs. The
merges are those that OpenAI published with CLIP (MIT, see NOTICE).
"""

import gzip
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from pochade.prompts.tokenizer import WORD_END, Merges, Special, Tokenizer, byte_alphabet

START, END = "<|startoftext|>", "<|endoftext|>"
START_ID, END_ID = 49406, 49407
POSITIONS = 77


def clip_tokenizer(pad_id: int = END_ID) -> Tokenizer:
    """Return CLIP's tokenizer. pad_id: the end token in SD 1.x, 0 ("!") in 2.x and in XL's second encoder."""
    vocabulary, merges = _tables()
    specials = {START: START_ID, END: END_ID, _piece(pad_id): pad_id}
    return Tokenizer(
        vocabulary=vocabulary,
        merges=merges,
        specials=tuple(Special(content, number) for content, number in specials.items()),
        start_id=START_ID,
        end_id=END_ID,
        pad_id=pad_id,
        unknown_id=END_ID,
        max_length=POSITIONS,
    )


def is_clip(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer has CLIP's vocabulary and merges, so that a single file need not contain it."""
    vocabulary, merges = _tables()
    return tokenizer.vocabulary == vocabulary and tokenizer.merges == merges


def clip_files(pad_id: int = END_ID) -> Mapping[str, bytes]:
    """Return the files of a tokenizer's folder, name -> content, as transformers reads them."""
    import json

    specials: dict[str, Any] = {
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": _piece(pad_id),
    }
    config = {
        **specials,
        "add_prefix_space": False,
        "do_lower_case": True,
        "model_max_length": POSITIONS,
        "tokenizer_class": "CLIPTokenizer",
    }
    vocabulary, _ = _tables()
    return {
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False, separators=(",", ":")).encode(),
        "merges.txt": b"#version: 0.2\n" + _merges_text(),
        "special_tokens_map.json": json.dumps(specials, indent=2).encode(),
        "tokenizer_config.json": json.dumps(config, indent=2, sort_keys=True).encode(),
    }


@cache
def _tables() -> tuple[Mapping[str, int], Merges]:
    """(piece -> id, merges). First the bytes, then the bytes at a word's end, then what merges make."""
    pairs = [line.split(" ") for line in _merges_text().decode().splitlines()]
    # CLIP numbers the bytes that are printed as themselves before the others.
    letters = sorted(byte_alphabet())
    pieces = [*letters, *(letter + WORD_END for letter in letters)]
    pieces += [left + right for left, right in pairs]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, START, END])}
    merges = {
        (vocabulary[left], vocabulary[right]): (rank, vocabulary[left + right])
        for rank, (left, right) in enumerate(pairs)
    }
    return vocabulary, merges


def _merges_text() -> bytes:
    return gzip.decompress(files("pochade.prompts").joinpath("clip_merges.txt.gz").read_bytes())


def _piece(number: int) -> str:
    return END if number == END_ID else next(p for p, i in _tables()[0].items() if i == number)
