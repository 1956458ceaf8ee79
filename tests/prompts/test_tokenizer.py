"""The tokenizer, compared with transformers."""

import dataclasses
import gzip
import importlib.util
import json
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from pochade.prompts.tokenizer import Tokenizer, normalize, split_words
from pochade.prompts.tokenizer_files import load_tokenizer

HARD = [
    "",
    " ",
    "\n\t\r\n",
    "a red fox in the snow",
    "A Photograph of an ASTRONAUT riding a horse, (masterpiece:1.2), [best|worst] quality...",
    "it's we'll I'M you'VE don't they'd we're ''s '' ' 'x rock'n'roll",
    "1234 3.14 ½ ² Ⅷ ٣٤ 一二三 4k 1girl",
    "日本語の狐 雪の中 中文提示词 한국어 프롬프트",
    "😀 🦊🦊 👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301lan E\u0301 \u0301a a\u0301\u0327 \u1100\u1161\u11a8",
    "\x00\x01\x1c\x1d\x1e\x1f\x7f\x85\xa0\xad\u200b\u200d\u2028\u2029\u3000\ufeff\u180e",
    "ΑΣ ΟΔΟΣ Σ. İstanbul Iı ß ẞ ǅ ﬁ Å",
    "x" * 300,
    "<|startoftext|>a<|endoftext|> b<|endoftext|>!!",
    "<|ENDOFTEXT|> !!<|EndOfText|>!! <|startoftext <|STARTOFTEXT|>",
    "<lora:fox:0.8> <hypernet> <> </w> a</w> !!! ! a!b!",
    "\u202eright to left\u202c \U000e0041 \ue000 \U0010fffd \ufffd",
]


def _assigned() -> list[str]:
    """Every character that this Python's Unicode tables know, lone surrogates left out."""
    return [chr(point) for point in range(0x110000) if unicodedata.category(chr(point)) not in ("Cn", "Cs")]


def _random_texts(count: int, seed: int) -> list[str]:
    generator = random.Random(seed)
    plain = [*"aeTHsx '!<|>4\n.,()", " the ", "cat", "狐", "é", "'s", "!!"]
    assigned = _assigned()
    return [
        "".join(generator.choice(plain if generator.random() < 0.6 else assigned) for _ in range(length))
        for length in (generator.randrange(1, 40) for _ in range(count))
    ]


def _reference(folder: Path) -> Callable[[str], list[int]]:
    tokenizer = CLIPTokenizer.from_pretrained(str(folder))
    return lambda text: tokenizer(text, verbose=False)["input_ids"]


def _with_ends(tokenizer: Tokenizer, text: str) -> list[int]:
    return [tokenizer.start_id, *tokenizer.encode(text), tokenizer.end_id]


@pytest.mark.parametrize("family", ["sd1_folder", "sd2_folder"])
def test_parity_on_hard_and_random_texts(family: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(family)
    ours, reference = load_tokenizer(folder), _reference(folder)
    texts = HARD + _random_texts(400, seed=7)
    differing = [text for text in texts if _with_ends(ours, text) != reference(text)]
    assert differing == []


def test_parity_on_every_character_in_a_word(sd1_folder: Path) -> None:
    ours, reference = load_tokenizer(sd1_folder), _reference(sd1_folder)
    # Many to a text, between letters, so that each must be sorted into letter, digit, space or other.
    assigned = _assigned()
    texts = ["x".join(assigned[start : start + 64]) for start in range(0, len(assigned), 64)]
    differing = [text for text in texts if _with_ends(ours, text) != reference(text)]
    assert differing == []


def test_parity_on_any_text(sd1_folder: Path, sd2_folder: Path) -> None:
    pairs = [(load_tokenizer(folder), _reference(folder)) for folder in (sd1_folder, sd2_folder)]
    pieces = st.sampled_from([*HARD, "<|endoftext|>", "!", "'s", "the", "ca", " "])
    assigned = st.characters(exclude_categories=("Cn", "Cs"))

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.one_of(pieces, st.text(assigned, max_size=8)), max_size=12).map("".join))
    def check(text: str) -> None:
        for ours, reference in pairs:
            assert _with_ends(ours, text) == reference(text)

    check()


@pytest.mark.parametrize(
    ("text", "pieces"),
    [("abc" * 33_334, 100_002), ("日本" * 17_000, None), ("!" * 100_000, None), ("the" * 33_334, None)],
    ids=["abc", "chinese", "signs", "the"],
)
def test_unbroken_word_of_100_kb(text: str, pieces: int | None, sd1_folder: Path) -> None:
    """Quadratic merging would take minutes here; the ids are what is asserted."""
    ours, reference = load_tokenizer(sd1_folder), _reference(sd1_folder)
    ids = _with_ends(ours, text)
    assert ids == reference(text)
    by_id = {number: piece for piece, number in ours.vocabulary.items()}
    alphabet = ours.vocabulary.keys()
    joined = "".join(by_id[number] for number in ids[1:-1])
    assert joined.endswith("</w>") and joined.count("</w>") == 1  # one word, of known pieces
    assert pieces is None or len(joined) - len("</w>") == pieces
    assert set(joined[:-4]) <= alphabet


def test_what_the_cache_keeps_does_not_change_what_it_says(sd1_folder: Path) -> None:
    ours = load_tokenizer(sd1_folder)
    first = ours.encode("the cat's the fox")
    first.append(-1)  # a caller may do as it likes with its list
    assert ours.encode("the cat's the fox") == first[:-1]
    assert ours.encode("the the") == [ours.vocabulary["the</w>"]] * 2


def test_specials_in_the_prompt_act_as_in_transformers(sd2_folder: Path) -> None:
    ours = load_tokenizer(sd2_folder)
    letters = ours.vocabulary
    assert ours.encode("a<|endoftext|>b") == [letters["a</w>"], ours.end_id, letters["b</w>"]]
    assert ours.encode("a!!") == [letters["a</w>"], 0, 0]
    as_trained = dataclasses.replace(ours, specials=())
    assert as_trained.encode("a!") == [letters["a</w>"], letters["!</w>"]]


def test_unknown_bytes_become_the_unknown_token(sd1_folder: Path) -> None:
    ours = load_tokenizer(sd1_folder)
    poorer = dataclasses.replace(
        ours, vocabulary={piece: number for piece, number in ours.vocabulary.items() if piece != "q"}
    )
    assert poorer.encode("qa") == [ours.unknown_id, ours.vocabulary["a</w>"]]


def test_lone_surrogates_do_not_stop_a_prompt(sd1_folder: Path) -> None:
    """A JSON request may hold one; transformers raise."""
    ours = load_tokenizer(sd1_folder)
    assert ours.encode("\ud800") == ours.encode("?")


def test_normalize_and_split() -> None:
    assert normalize("Ｅ\u0301 A\n\n\tB\u3000C") == "ｅ\u0301 a b c"
    assert normalize("E\u0301") == "é"
    assert normalize("ΟΔΟΣ") == "οδοσ"
    assert list(split_words("it's 42!? <|endoftext|>!")) == [
        *("it", "'s", "4", "2", "!?"),
        *("<|", "endoftext", "|>", "!"),
    ]


@pytest.mark.slow
def test_parity_with_the_full_vocabulary_of_clip(tmp_path: Path) -> None:
    """CLIP's own 49,408 entries, which open_clip brings along; two sequences are known from OpenAI's CLIP."""
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        pytest.skip("open-clip-torch is not installed")
    compressed = Path(package.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(compressed.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    codes = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [*map(chr, codes), *(chr(256 + number) for number in range(256 - len(codes)))]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *(line.replace(" ", "") for line in lines)]
    table: dict[str, Any] = {piece: number for number, piece in enumerate(pieces)}
    table |= {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    (tmp_path / "vocab.json").write_text(json.dumps(table), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n", encoding="utf-8")

    ours, reference = load_tokenizer(tmp_path), _reference(tmp_path)
    assert _with_ends(ours, "a photo of a cat") == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert _with_ends(ours, "hello world!") == [49406, 3306, 1002, 256, 49407]
    assert (ours.start_id, ours.end_id, ours.pad_id) == (49406, 49407, 49407)
    texts = HARD + _random_texts(2000, seed=11)
    differing = [text for text in texts if _with_ends(ours, text) != reference(text)]
    assert differing == []
