"""Styles from A1111's CSV file."""

from pathlib import Path

import pytest

from pochade.errors import InvalidRequest
from pochade.prompts.styles import Style, apply_styles, find_styles, read_styles

TABLE = """name,prompt,negative_prompt
Flat,"{prompt}, flat, ""vector"" art",photo
Old,"faded
colours",
Empty,,
Flat negative,,"{prompt}, blurry"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "styles.csv"
    path.write_text(TABLE, encoding="utf-8-sig")
    return path


def test_a_table(path: Path) -> None:
    assert list(read_styles(path).values()) == [
        Style("Flat", '{prompt}, flat, "vector" art', "photo"),
        Style("Old", "faded\ncolours"),
        Style("Empty"),
        Style("Flat negative", "", "{prompt}, blurry"),
    ]


def test_the_oldest_table_and_one_with_more_columns(path: Path) -> None:
    path.write_text("name,text,other\na,b,c\nshort\n,nameless,\n")
    assert read_styles(path) == {"a": Style("a", "b"), "short": Style("short")}


@pytest.mark.parametrize(
    ("names", "prompt", "negative", "expected"),
    [
        ([], " a fox ", "", (" a fox ", "")),
        (["Empty"], " a fox ", " x ", (" a fox ", " x ")),
        (["Flat"], "a fox", "", ('a fox, flat, "vector" art', "photo")),
        (["Flat"], "a fox", "dark ", ('a fox, flat, "vector" art', "dark, photo")),
        (["Old"], " a fox ", "", ("a fox, faded\ncolours", "")),
        (["Old"], "", "", ("faded\ncolours", "")),
        (["Flat negative"], "a fox", "dark", ("a fox", "dark, blurry")),
        (["Old", "Flat"], "a", "", ('a, faded\ncolours, flat, "vector" art', "photo")),
        (["Flat", "Old"], "a", "", ('a, flat, "vector" art, faded\ncolours', "photo")),
    ],
)
def test_styles_are_put_around_the_prompts(
    names: list[str], prompt: str, negative: str, expected: tuple[str, str], path: Path
) -> None:
    assert apply_styles(prompt, negative, find_styles(names, read_styles(path))) == expected


def test_an_unknown_style_is_answered_with_the_known_ones(path: Path) -> None:
    with pytest.raises(InvalidRequest, match="style 'Flut' is unknown; one of: Flat, Old, Empty"):
        find_styles(["Flut"], read_styles(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the first line must be: name,prompt,negative_prompt"),
        (b"a,b\n1,2\n", "begin with the columns 'a', 'b'"),
        (b"name,prompt\n\xff\xfe", "is not a CSV table in UTF-8"),
        (b'name,prompt\na,"b"c\n', "is not a CSV table"),
    ],
)
def test_a_file_that_is_none(content: bytes, message: str, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=message):
        read_styles(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"nowhere\.csv' cannot be read"):
        read_styles(tmp_path / "nowhere.csv")
