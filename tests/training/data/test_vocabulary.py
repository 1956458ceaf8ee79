"""The learned vocabulary: CLIP's layout, readable by transformers, lossless for any text."""

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from pochade.errors import InvalidRequest
from pochade.training.corpus import Corpus, CorpusEntry
from pochade.training.corpus.colours import COLOURS
from pochade.training.data import vocabulary

ENTRY = CorpusEntry(
    file="a.npy", row=0, label="", tags=(), style="flat style", source="a", licence="MIT", code="0",
    emoji="?", group="objects", subgroup="tool", mirrorable=True, colour="blue", colour_share=0.9,
)  # fmt: skip

SENTENCES = ("a red fox in the snow, flat style", "a smiling owl on a white background", "an owl's 3d style")


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vocabulary.train_vocabulary(SENTENCES * 5, tmp_path_factory.mktemp("vocabulary"), size=1000)


def test_the_layout_is_clips(learned: Path) -> None:
    table = json.loads((learned / "vocab.json").read_text("utf-8"))
    entries = list(table)
    version, *merges = (learned / "merges.txt").read_text("utf-8").splitlines()
    assert list(table.values()) == list(range(256 + 256 + len(merges) + 2))
    assert len(set(entries[:256])) == 256 and all(len(symbol) == 1 for symbol in entries[:256])
    assert entries[0] == "!" and entries[255] == chr(0x143)  # as in CLIP: the last is the soft hyphen's
    assert entries[256:512] == [symbol + "</w>" for symbol in entries[:256]]
    assert [merge.replace(" ", "") for merge in merges] == entries[512:-2]
    assert entries[-2:] == ["<|startoftext|>", "<|endoftext|>"]
    assert version == "#version: 0.2"


def test_transformers_reads_it(learned: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(learned)
    size = len(json.loads((learned / "vocab.json").read_text("utf-8")))
    assert (len(tokenizer), tokenizer.model_max_length) == (size, 77)
    start, end = size - 2, size - 1
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (start, end, end)
    tokens = tokenizer.tokenize("A  Red FOX\nin the snow")
    assert tokens == ["a</w>", "red</w>", "fox</w>", "in</w>", "the</w>", "snow</w>"]
    padded = tokenizer("owl", padding="max_length")["input_ids"]
    assert len(padded) == 77 and padded[0] == start and set(padded[2:]) == {end}


@pytest.fixture(scope="module")
def tokenizer(learned: Path) -> CLIPTokenizer:
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(learned)
    return tokenizer


@settings(deadline=None, max_examples=200)
@given(
    st.text(st.characters(exclude_categories=("Cs", "Zs", "Zl", "Zp", "Cc", "Cf")), min_size=1, max_size=20)
)
def test_any_text_comes_back(tokenizer: CLIPTokenizer, text: str) -> None:
    assume("<|" not in text)  # the two special tokens are what they are, not text
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids  # the end of text is also the unknown token
    back = str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
    expected = unicodedata.normalize("NFC", text).lower()
    assert "".join(back.split()) == "".join(expected.split())


def test_the_same_texts_give_the_same_files(tmp_path: Path) -> None:
    """The package breaks ties by an order that differs from run to run; ours must not."""
    letters = np.random.default_rng(0).integers(ord("a"), ord("z") + 1, (300, 5))
    texts = ["".join(map(chr, word)) for word in letters]  # hundreds of pairs are equally frequent
    folders = [vocabulary.train_vocabulary(texts, tmp_path / str(n), size=1000) for n in range(4)]
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1


def test_too_small_a_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="514 entries"):
        vocabulary.train_vocabulary(["a"], tmp_path, size=514)


def test_labels_tags_and_prompt_words_are_learned(tmp_path: Path) -> None:
    labels = {"red apple": ("fruit", "food"), "owl": ("animal", "wise"), "smiling face": ("happy",)}
    entries = tuple(replace(ENTRY, label=label, tags=tags) for label, tags in labels.items())
    corpus = Corpus(tmp_path, 8, entries, {})
    texts = [text for seed in range(60) for text in vocabulary.training_texts(corpus, seed=seed)]
    folder = vocabulary.train_vocabulary(texts, tmp_path / "v", size=1500)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    words = {word for entry in corpus.entries for text in (entry.label, *entry.tags) for word in text.split()}
    words |= {*COLOURS, "in", "on", "the", "with", "background", "small", "big", "three"}
    assert {word: len(tokenizer.tokenize(word)) for word in words} == dict.fromkeys(words, 1)


def test_no_more_entries_than_asked_for(tmp_path: Path) -> None:
    folder = vocabulary.train_vocabulary(SENTENCES, tmp_path, size=530)
    assert len(json.loads((folder / "vocab.json").read_text("utf-8"))) == 530
    assert len((folder / "merges.txt").read_text("utf-8").splitlines()) == 1 + 530 - 514
