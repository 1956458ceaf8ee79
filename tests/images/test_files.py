"""Writing pictures: metadata round trip, unique names, and no partial files."""

import errno
import os
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pochade.errors import InvalidRequest, OutputError
from pochade.images.decode import on_white
from pochade.images.files import (
    check_destination,
    default_name,
    picture_format,
    save_picture,
    save_without_overwriting,
)

TEXTS = {
    "ascii": "a fox\nNegative prompt: blurry\nSteps: 20, Sampler: Euler",
    "latin-1": "un café près de l'église",
    "unicode": "雪の中の狐 🦊 \N{COMBINING ACUTE ACCENT}",
    "empty": "",
    "long": "very " * 6000 + "🦊",
    "null character": "a\0b",
}


@pytest.fixture(scope="module")
def image() -> Image.Image:
    """A smooth picture, as lossy formats like them."""
    rows, columns = np.mgrid[0:64, 0:48]
    return Image.fromarray(np.stack([rows * 4, columns * 5, rows + columns], axis=-1).astype(np.uint8))


def text_in(path: Path) -> str | None:
    """The text that a picture carries, read as the field's tools do."""
    with Image.open(path) as picture:
        if "parameters" in picture.info:
            return str(picture.info["parameters"])
        comment = picture.getexif().get_ifd(0x8769).get(0x9286)
    if comment is None:
        return None
    assert comment[:8] == b"UNICODE\0"
    return str(comment[8:].decode("utf-16-be"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".jpeg", ".PNG"])
def test_the_text_comes_back(image: Image.Image, tmp_path: Path, suffix: str, text: str) -> None:
    path = tmp_path / f"fox{suffix}"
    save_picture(image, path, text)
    assert text_in(path) == (text or None)
    with Image.open(path) as picture:
        assert picture.format == picture_format(path)
        error = np.abs(np.asarray(picture, int) - np.asarray(image, int))
    assert error.max() <= (0 if picture.format == "PNG" else 12)
    assert names(tmp_path) == [path.name]


def test_png_keeps_latin_1_text_in_the_oldest_kind_of_chunk(image: Image.Image, tmp_path: Path) -> None:
    save_picture(image, tmp_path / "a.png", TEXTS["latin-1"])
    save_picture(image, tmp_path / "b.png", TEXTS["unicode"])
    assert b"tEXtparameters\0" in (tmp_path / "a.png").read_bytes()
    assert b"iTXtparameters\0" in (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_half_a_character_becomes_a_question_mark(image: Image.Image, tmp_path: Path, suffix: str) -> None:
    save_picture(image, tmp_path / f"fox{suffix}", "a \ud83d fox")
    assert text_in(tmp_path / f"fox{suffix}") == "a ? fox"


def test_a_text_that_is_too_long_for_jpeg(image: Image.Image, tmp_path: Path) -> None:
    save_picture(image, tmp_path / "fits.jpg", "x" * 32_000)
    assert text_in(tmp_path / "fits.jpg") == "x" * 32_000
    with pytest.raises(
        InvalidRequest, match=r"fox\.jpg' cannot be made: .* 32,001 characters; .* use \.png or \.webp"
    ):
        save_picture(image, tmp_path / "fox.jpg", "x" * 32_001)
    for suffix in (".png", ".webp"):
        save_picture(image, tmp_path / f"fox{suffix}", "🦊" * 100_000)
        assert text_in(tmp_path / f"fox{suffix}") == "🦊" * 100_000


@pytest.mark.parametrize("name", ["fox", "fox.gif", "fox.png.txt", ".png"])
def test_an_unknown_suffix_is_refused_before_anything_is_touched(
    image: Image.Image, tmp_path: Path, name: str
) -> None:
    for refuse in (check_destination, lambda path: save_picture(image, path)):
        with pytest.raises(
            InvalidRequest, match=r"ends in .*; a picture's name ends in \.png, \.jpg or \.webp"
        ):
            refuse(tmp_path / "new" / name)
    assert names(tmp_path) == []


# --- names ----------------------------------------------------------------------------------------


def test_nothing_is_overwritten(image: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "fox.png"
    written = [save_without_overwriting(image, path, f"number {i}") for i in range(3)]
    assert [item.name for item in written] == ["fox.png", "fox-2.png", "fox-3.png"]
    (path.parent / "fox-2.png").unlink()
    assert save_without_overwriting(image, str(path), "number 3").name == "fox-2.png"
    assert [text_in(item) for item in written] == ["number 0", "number 3", "number 2"]
    assert names(path.parent) == ["fox-2.png", "fox-3.png", "fox.png"]


def test_a_folder_or_a_broken_link_also_has_its_name(image: Image.Image, tmp_path: Path) -> None:
    (tmp_path / "fox.png").mkdir()
    (tmp_path / "fox-2.png").symlink_to(tmp_path / "gone")
    assert save_without_overwriting(image, tmp_path / "fox.png").name == "fox-3.png"
    assert names(tmp_path) == ["fox-2.png", "fox-3.png", "fox.png"]
    assert not (tmp_path / "gone").exists()


def test_many_at_once_get_a_name_each(
    image: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "lexists", lambda path: False)  # so that all of them try the same names
    start = threading.Barrier(8)
    taken: list[Path] = []

    def write(number: int) -> None:
        own = image.copy()  # PIL keeps what it is asked to save in the picture itself
        start.wait()
        path = save_without_overwriting(own, tmp_path / "fox.png", str(number))
        taken.append(path)
        assert text_in(path) == str(number)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = ["fox.png", *(f"fox-{i}.png" for i in range(2, 9))]
    assert sorted(path.name for path in taken) == sorted(expected)
    assert sorted(text_in(path) or "" for path in taken) == [str(i) for i in range(8)]
    assert names(tmp_path) == sorted(expected)


def test_saving_under_a_name_replaces_what_was_there(image: Image.Image, tmp_path: Path) -> None:
    for text in ("first", "second"):
        save_picture(image, tmp_path / "fox.png", text)
    assert text_in(tmp_path / "fox.png") == "second"
    assert names(tmp_path) == ["fox.png"]


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a red fox in the snow", "a-red-fox-in-the-snow-7.png"),
        ("A (red:1.3) FOX, <lora:snow:1>", "a-red-1-3-fox-lora-snow-1-7.png"),
        ("../../etc/passwd", "etc-passwd-7.png"),
        ("crème brûlée", "creme-brulee-7.png"),
        ("雪の中の狐", "picture-7.png"),
        ("", "picture-7.png"),
        ("con", "con-7.png"),
        ("word " * 40, "word-word-word-word-word-word-word-word-word-word-word-word-7.png"),
        ("x" * 200, "x" * 60 + "-7.png"),
    ],
)
def test_the_default_name(prompt: str, name: str) -> None:
    assert default_name(prompt, 7) == name


@given(prompt=st.text(), seed=st.integers(0, 2**64 - 1))
def test_any_prompt_gives_a_name_that_every_system_can_keep(prompt: str, seed: int) -> None:
    name = default_name(prompt, seed)
    assert re.fullmatch(rf"[a-z0-9]+(-[a-z0-9]+)*-{seed}\.png", name)
    assert len(name) <= 60 + len(f"-{seed}.png")


# --- failures -------------------------------------------------------------------------------------

SAVERS = pytest.mark.parametrize("save", [save_picture, save_without_overwriting])


@SAVERS
@pytest.mark.parametrize(
    ("number", "way_out"),
    [
        (errno.ENOSPC, "No space left on device; free some disk space, or choose another folder"),
        (errno.EROFS, "Read-only file system; choose a folder that you may write to"),
        (errno.EIO, "Input/output error; check that the folder exists and is writable"),
    ],
)
def test_a_disk_that_fails_leaves_nothing(
    image: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Any, number: int, way_out: str
) -> None:
    def full(handle: int) -> None:
        assert len(names(tmp_path)) == 1  # the hidden file is there, and has been written
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=rf"fox\.png' could not be written: {way_out}"):
        save(image, tmp_path / "fox.png")
    assert names(tmp_path) == []


@SAVERS
def test_a_write_that_breaks_off_leaves_nothing(image: Image.Image, tmp_path: Path, save: Any) -> None:
    resource = pytest.importorskip("resource", reason="limits are a thing of POSIX systems")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # the kernel takes 100 bytes of a file, no more
    try:
        with pytest.raises(OutputError, match=r"fox\.png' could not be written: File too large"):
            save(image, tmp_path / "fox.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []


@SAVERS
@pytest.mark.parametrize("when", ["fsync", "replace"])
def test_ctrl_c_leaves_nothing(
    image: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Any, when: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[when], interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(image, tmp_path / "fox.png")
    assert names(tmp_path) == []


@SAVERS
def test_a_file_stands_where_a_folder_is_needed(image: Image.Image, tmp_path: Path, save: Any) -> None:
    (tmp_path / "file").write_text("here first")
    for path in (tmp_path / "file" / "fox.png", tmp_path / "file" / "deep" / "fox.png"):
        for refuse in (check_destination, lambda path: save(image, path)):
            with pytest.raises(OutputError, match=r"fox\.png' could not be written: .*; choose a folder"):
                refuse(path)
    assert (tmp_path / "file").read_text() == "here first"
    assert names(tmp_path) == ["file"]


@SAVERS
def test_a_name_that_is_too_long(image: Image.Image, tmp_path: Path, save: Any) -> None:
    with pytest.raises(OutputError, match="File name too long; choose a shorter name"):
        save(image, tmp_path / f"{'x' * 300}.png")
    assert names(tmp_path) == []


def test_a_name_that_just_fits(image: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / f"{'x' * 251}.png"
    save_picture(image, path, "fits")
    assert text_in(path) == "fits"


def test_a_folder_that_may_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def access(folder: Path, mode: int) -> bool:
        asked.append(folder)
        return False

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(OutputError, match="Permission denied; choose a folder that you may write to"):
        check_destination(tmp_path / "new" / "fox.png")
    assert asked == [tmp_path]


def test_a_good_destination_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_destination(tmp_path / "a" / "b" / "fox.webp")
    check_destination("fox.png")
    assert names(tmp_path) == []


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_what_is_transparent(tmp_path: Path, suffix: str) -> None:
    """It stays so; in a JPEG, which has no transparency, it is white, whatever colour is hidden there."""
    image = Image.new("RGBA", (16, 16), (0, 200, 0, 0))
    image.paste((200, 0, 0, 255), (0, 0, 8, 16))
    path = tmp_path / f"logo{suffix}"
    save_picture(image, path, "a logo")
    with Image.open(path) as saved:
        assert saved.mode == ("RGB" if suffix == ".jpg" else "RGBA")
        shown = on_white(saved.copy())
    assert shown.getpixel((3, 8))[0] > 180 and shown.getpixel((3, 8))[1] < 40  # type: ignore[index]
    assert min(shown.getpixel((13, 8))) > 240  # type: ignore[type-var]
