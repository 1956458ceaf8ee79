"""Folders of wildcards: reading, and that no name can leave the folder."""

from pathlib import Path

import pytest

from pochade.errors import InvalidRequest
from pochade.prompts.wildcards import folder_of_wildcards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "wildcards"
    (root / "dir").mkdir(parents=True)
    (root / "animal.txt").write_text("fox\n\n# not this\n  great owl  \r\n狐", encoding="utf-8-sig")
    (root / "dir" / "deep.name-2.txt").write_text("x")
    (root / "empty.txt").write_text("\n# nothing\n")
    (root / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "secret.txt").write_text("secret")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "out").symlink_to(tmp_path)
    (root / "inner.txt").symlink_to(root / "animal.txt")
    (root / "circle.txt").symlink_to(root / "circle.txt")
    return root


def test_lines(folder: Path) -> None:
    read = folder_of_wildcards(folder)
    assert read("animal") == ["fox", "great owl", "狐"]
    assert read("dir/deep.name-2") == ["x"]
    assert read("inner") == read("animal")


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "dir/../../secret",
        "/etc/passwd",
        "link",
        "out/secret",
        "circle",
        "..",
        "",
        "dir\\..\\..\\secret",
        "C:secret",
        "a\0b",
        "/" * 50,
    ],
)
def test_no_name_leads_out(name: str, folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="is not the name of a file inside 'wildcards'"):
        folder_of_wildcards(folder)(name)


def test_an_absolute_name_of_a_file_inside_is_refused_too(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="is not the name"):
        folder_of_wildcards(folder)(str(folder / "animal"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("anmal", "'__anmal__' is unknown; one of: animal, bytes, .*dir/deep.name-2"),
        ("dir", "is unknown"),
        ("x" * 400, "is (unknown|no name)"),
        ("empty", "'empty.txt' has no phrases"),
        ("bytes", "'bytes.txt' is not text"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, message: str, folder: Path) -> None:
    with pytest.raises(InvalidRequest, match=message):
        folder_of_wildcards(folder)(name)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="nowhere' does not exist"):
        folder_of_wildcards(tmp_path / "nowhere")
    with pytest.raises(InvalidRequest, match=r"'.*' holds no \.txt files"):
        folder_of_wildcards(tmp_path)("animal")


def test_a_suffix_in_capital_letters(folder: Path) -> None:
    (folder / "Big.TXT").write_text("one\r\ntwo\r\n")
    assert folder_of_wildcards(folder)("Big") == ["one", "two"]
    with pytest.raises(InvalidRequest, match=r"one of: .*Big"):
        folder_of_wildcards(folder)("Small")
