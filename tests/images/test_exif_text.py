"""EXIF comments in all combinations of byte order, mark, encoding and script."""

import struct
from itertools import product
from pathlib import Path

import pytest
from PIL import Image

from pochade.images.embedded_text import read_text
from pochade.images.exif_text import decoded, user_comment

TAIL = "\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512"
PROMPTS = {
    "Latin": "a red fox, 1girl",
    "accents": "un renard éphémère, ça façade",
    "Cyrillic": "рыжая лиса в снегу",
    "Greek": "κόκκινη αλεπού",
    "Chinese": "一只红色的狐狸在雪地里，傍晚",
    "Japanese": "雪の中の赤い狐、夕暮れ",
    "Korean": "눈 속의 붉은 여우",
    "emoji": "a 🦊 in the ❄️",
}
MARKS = {"UNICODE": b"UNICODE\0", "ASCII": b"ASCII\0\0\0", "none": b"", "zeros": bytes(8)}
ENCODINGS = ("utf-16-be", "utf-16-le", "utf-8", "utf-16")  # the last with a byte order mark
TEXTS = {name: prompt + TAIL for name, prompt in PROMPTS.items()}


@pytest.mark.parametrize(("mark", "endian"), list(product(MARKS, "<>")))
def test_texts_with_their_settings(mark: str, endian: str) -> None:
    for (script, text), encoding in product(TEXTS.items(), ENCODINGS):
        raw = MARKS[mark] + text.encode(encoding)
        assert decoded(raw, endian) == text, (script, encoding)
        assert decoded(raw + b"\0\0", endian) == text, (script, encoding)


@pytest.mark.parametrize("endian", "<>")
def test_prompts_alone_under_the_unicode_mark(endian: str) -> None:
    for (script, text), encoding in product(PROMPTS.items(), ENCODINGS):
        assert decoded(b"UNICODE\0" + text.encode(encoding), endian) == text, (script, encoding)


def test_what_is_left_open_is_in_the_order_of_the_file() -> None:
    """One letter is a letter in either order."""
    assert decoded(b"UNICODE\0\x4e\x2d", ">") == "\N{CJK UNIFIED IDEOGRAPH-4E2D}"
    assert decoded(b"UNICODE\0\x2d\x4e", "<") == "\N{CJK UNIFIED IDEOGRAPH-4E2D}"
    assert decoded(b"UNICODE\0" + "fox".encode("utf-16-le"), ">") == "fox"


def test_other_marks() -> None:
    text = "雪の中の赤い狐"
    assert decoded(b"JIS\0\0\0\0\0" + text.encode("iso2022_jp")) == text
    assert decoded(b"JIS\0\0\0\0\0" + text.encode("shift_jis")) == text
    assert decoded(b"ASCII\0\0\0caf\xe9") == "café"  # what has no encoding is Latin
    assert decoded(b"Unicode\0" + "fox".encode("utf-16-be")) == "fox"
    assert decoded(b"") == decoded(b"UNICODE\0") == decoded(bytes(8)) == ""


def exif(comment: bytes, endian: str, *, first: bool, kind: int) -> bytes:
    """An EXIF block with the comment in its own directory, or in the first. kind: of the entry, 2 or 7."""
    order = "II" if endian == "<" else "MM"
    header = b"Exif\0\0" + struct.pack(f"{endian}2sHI", order.encode(), 42, 8)
    entry = struct.pack(f"{endian}HHII", 0x9286, kind, len(comment), 26 if first else 44)
    if first:
        return header + struct.pack(f"{endian}H", 1) + entry + bytes(4) + comment
    link = struct.pack(f"{endian}HHHIII", 1, 0x8769, 4, 1, 26, 0)
    return header + link + struct.pack(f"{endian}H", 1) + entry + bytes(4) + comment


@pytest.mark.parametrize(
    ("endian", "first", "kind", "suffix"), list(product("<>", [True, False], [2, 7], ["jpg", "webp"]))
)
def test_in_either_directory(tmp_path: Path, endian: str, first: bool, kind: int, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    for text in TEXTS.values():
        encodings = ("utf-8",) if kind == 2 else ("utf-8", "utf-16-be", "utf-16-le")
        for encoding, mark in product(encodings, (b"", b"UNICODE\0", b"ASCII\0\0\0")):
            block = exif(mark + text.encode(encoding), endian, first=first, kind=kind)
            Image.new("RGB", (8, 8)).save(path, exif=block)
            assert read_text(path) == text


def test_a_comment_of_numbers(tmp_path: Path) -> None:
    """As Pillow writes bytes that it was told no type of."""
    table = Image.Exif()
    table[0x9286] = tuple(b"ASCII\0\0\0a red fox")
    assert user_comment(table) == "a red fox"
