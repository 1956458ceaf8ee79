"""Importing a user's pictures in all formats, and errors."""

import gzip
import io
import json
import os
import sys
import tarfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pochade.errors import InvalidRequest, MissingDependency
from pochade.training.corpus import Corpus, NothingUsable, load
from pochade.training.corpus.importers import gather
from pochade.training.corpus.importers.common import MAX_CAPTION, ImportSettings, split_by_share
from pochade.training.corpus.importers.parquet import row_item

SIZE = 16
Gather = Callable[..., Corpus]


def picture(colour: str = "red", size: tuple[int, int] = (48, 24), kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, kind)
    return stream.getvalue()


def put(folder: Path, files: dict[str, bytes | str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def tar_of(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def lines_of(*objects: object) -> str:
    return "".join(json.dumps(each) + "\n" for each in objects)


def captions(corpus: Corpus) -> dict[str, str]:
    return {entry.name: entry.caption for entry in corpus.entries}


def skipped(folder: Path) -> dict[str, str]:
    """Reasons by name."""
    lines = Path(folder, "skipped.jsonl").read_text("utf-8").splitlines()
    return {skip["name"]: skip["reason"] for skip in map(json.loads, lines)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "My Photos"
    folder.mkdir()
    return folder


@pytest.fixture
def gathered(tmp_path: Path, photos: Path) -> Gather:
    def run(*paths: Path, **options: object) -> Corpus:
        return gather(tmp_path / "set", paths or [photos], **{"size": SIZE, **options})  # type: ignore[arg-type]

    return run


# --- a folder of pictures and text files --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text files", "lines", "tar"])
@pytest.mark.parametrize(("of_pictures", "of_captions"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_whose_accents_are_written_in_two_ways_are_one(
    photos: Path, gathered: Gather, kind: str, of_pictures: str, of_captions: str
) -> None:
    """macOS takes accented letters in names apart, and a list or a text file may come from elsewhere."""
    name = "größe/Äpfel été.png"
    shown = unicodedata.normalize(of_pictures, name)
    said = unicodedata.normalize(of_captions, name)
    text = str(Path(said).with_suffix(".txt"))
    content = picture("red")
    files: dict[str, bytes | str] = {shown: content}
    if kind == "text files":
        files[text] = "apples"
    elif kind == "lines":
        files["metadata.jsonl"] = lines_of({"file_name": said, "text": "apples"})
    else:
        files = {"a.tar": tar_of({shown: content, text: b"apples"})}
    put(photos, files)
    corpus = gathered()
    assert list(captions(corpus).values()) == ["apples"]
    assert skipped(corpus.folder) == {}


def test_pictures_and_their_captions_are_stored(photos: Path, gathered: Gather) -> None:
    put(photos, {
        "cat.png": picture("red"), "cat.txt": "a red\n  cat \n",
        "small.webp": picture("lime", (9, 12), "WEBP"), "small.txt": "tiny",
        "deep/er/dog.JPG": picture("blue", (20, 60), "JPEG"), "deep/er/dog.txt": "\ufeffein Hund, größer",
    })  # fmt: skip
    corpus = gathered()
    assert captions(corpus) == {
        "cat.png": "a red cat",
        "deep/er/dog.JPG": "ein Hund, größer",
        "small.webp": "tiny",
    }
    assert [(e.width, e.height) for e in corpus.entries] == [(32, 16), (9, 12), (16, 48)]
    shapes = [corpus.picture(index).shape for index in range(3)]
    assert shapes == [(16, 32, 4), (12, 9, 4), (48, 16, 4)]
    assert corpus.picture(0)[8, 8].tolist() == [255, 0, 0, 255]
    entry = corpus.entries[0]
    assert (entry.source, entry.label, entry.style, entry.tags) == ("my-photos", "", "", ())
    assert corpus.manifest["kind"] == "given"
    assert skipped(corpus.folder) == {}
    assert Path(corpus.folder, "contact-sheet.png").is_file()


def test_transparency_is_kept(photos: Path, gathered: Gather) -> None:
    stream = io.BytesIO()
    Image.new("RGBA", (20, 20), (255, 0, 0, 128)).save(stream, "PNG")
    put(photos, {"a.png": stream.getvalue(), "a.txt": "glass"})
    assert gathered().picture(0).shape == (16, 16, 4)


def test_bad_files_are_skipped_and_listed(photos: Path, gathered: Gather) -> None:
    good = picture(kind="JPEG", size=(40, 40))
    put(photos, {
        "good.jpg": good, "good.txt": "good",
        "cut.jpg": good[:300], "cut.txt": "cut off",
        "text.png": "not a picture", "text.txt": "words",
        "zero.png": b"", "zero.txt": "nothing",
        "alone.png": picture(),
        "caption.txt": "of nothing",
        "blank.png": picture(), "blank.txt": " \n ",
        "long.png": picture(), "long.txt": "x" * (MAX_CAPTION + 1),
        "huge.png": picture(), "huge.txt": "x" * (5 * MAX_CAPTION),
        "binary.png": picture(), "binary.txt": b"\xff\xfe\x00binary",
        "nul.png": picture(), "nul.txt": "a\0b",
        "twice.png": picture(), "twice.jpg": picture(kind="JPEG"), "twice.txt": "which one?",
        ".hidden.png": picture(), "notes.md": "# nothing to do with it", "phone.HEIC": b"ftypheic",
    })  # fmt: skip
    (photos / "folder.png").mkdir()
    corpus = gathered()
    assert set(captions(corpus)) == {"good.jpg", "twice.jpg"}
    assert skipped(corpus.folder) == {
        "cut.jpg": "a damaged picture",
        "text.png": "not a picture in a supported format",
        "zero.png": "an empty file",
        "alone.png": "no caption",
        "caption.txt": "a caption without a picture",
        "blank.png": "an empty caption",
        "long.png": "an over-long caption",
        "huge.png": "an over-long caption",
        "binary.png": "a caption that is not text",
        "nul.png": "a caption that is not text",
        "twice.png": "a duplicate name",
        "phone.HEIC": "an unsupported picture format",
    }
    source = corpus.manifest["sources"]["my-photos"]
    assert (source["pictures"], source["skipped"]) == (2, 12)
    assert source["reasons"]["an over-long caption"] == 2


def test_links_that_leave_the_folder_are_not_followed(photos: Path, gathered: Gather, tmp_path: Path) -> None:
    put(
        tmp_path / "secret",
        {"key.png": picture(), "key.txt": "secret", "data.jsonl": lines_of({"image": "key.png"})},
    )
    put(photos, {"good.png": picture(), "good.txt": "good", "a.txt": "a link", "b.png": picture()})
    (photos / "a.png").symlink_to(tmp_path / "secret" / "key.png")
    (photos / "b.txt").symlink_to(tmp_path / "secret" / "key.txt")
    (photos / "data.jsonl").symlink_to(tmp_path / "secret" / "data.jsonl")
    (photos / "more").symlink_to(tmp_path / "secret")
    (photos / "loop").symlink_to(photos)
    (photos / "inside.png").symlink_to(photos / "good.png")
    (photos / "inside.txt").write_text("a link to a neighbour")
    (photos / "nowhere.png").symlink_to(photos / "absent.png")
    (photos / "nowhere.txt").write_text("a broken link")
    corpus = gathered()
    assert set(captions(corpus)) == {"good.png", "inside.png"}
    reasons = skipped(corpus.folder)
    assert {
        name: reasons[name] for name in ("a.png", "b.txt", "data.jsonl", "more", "loop", "nowhere.png")
    } == {
        "a.png": "a link to outside the folder",
        "b.txt": "a link to outside the folder",
        "data.jsonl": "a link to outside the folder",
        "more": "a link to a folder",
        "loop": "a link to a folder",
        "nowhere.png": "no such picture",
    }


def test_a_file_that_cannot_be_read_is_skipped(
    photos: Path, gathered: Gather, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a stub: root, as which tests often run, may read everything."""
    put(photos, {"a.png": picture(), "a.txt": "a", "b.png": picture(), "b.txt": "b"})
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "a.png":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    corpus = gathered()
    assert set(captions(corpus)) == {"b.png"}
    assert skipped(corpus.folder) == {"a.png": "an unreadable file"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_does_not_stop_everything(photos: Path, gathered: Gather) -> None:
    put(photos, {"a.png": picture(), "a.txt": "a", "b.txt": "b"})
    os.mkfifo(photos / "b.png")
    assert set(captions(gathered())) == {"a.png"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems want names in Unicode")
def test_names_in_no_encoding_are_stored(photos: Path, gathered: Gather) -> None:
    for name in (b"f\xfcchs", b"\xff"):
        Path(os.fsdecode(os.fsencode(photos) + b"/" + name + b".png")).write_bytes(picture())
    Path(os.fsdecode(os.fsencode(photos) + b"/f\xfcchs.txt")).write_text("a fox")
    corpus = load(gathered().folder)
    assert [entry.caption for entry in corpus.entries] == ["a fox"]
    assert corpus.picture(0).shape == (16, 32, 4)
    assert list(skipped(corpus.folder).values()) == ["no caption"]


# --- JSON lines ------------------------------------------------------------------------------------


def test_json_lines_name_pictures_and_captions(photos: Path, gathered: Gather) -> None:
    put(photos, {
        "train/a.png": picture(), "train/sub/b.png": picture(), "c.png": picture(), "unnamed.png": picture(),
        "train/metadata.jsonl": lines_of(
            {"file_name": "a.png", "text": "first"}, {"image": "sub/b.png", "caption": "second"}
        ) + "\n",
        "other.jsonl": lines_of({"path": "c.png", "prompt": "third", "seed": 3}),
    })  # fmt: skip
    corpus = gathered()
    assert captions(corpus) == {"c.png": "third", "train/a.png": "first", "train/sub/b.png": "second"}
    assert skipped(corpus.folder) == {"unnamed.png": "no caption"}


def test_bad_lines_are_skipped_and_listed(photos: Path, gathered: Gather, tmp_path: Path) -> None:
    (tmp_path / "outside.png").write_bytes(picture())
    put(photos, {
        "a.png": picture(), "b.png": picture(), "c.png": picture(), "d.png": picture(),
        "cut.png": picture()[:50],
        "data.jsonl": b"".join([
            lines_of({"image": "a.png", "text": "good"}).encode(),
            b'{"image": "b.png", "text": \n',
            b"[1, 2]\n",
            b"\xff\xfe\n",
            b"[" * 100_000 + b"\n",
            lines_of({"image": "a.png", "text": "again"}).encode(),
            lines_of({"image": "absent.png", "text": "gone"}).encode(),
            lines_of({"image": "../outside.png", "text": "out"}).encode(),
            lines_of({"image": str(tmp_path / "outside.png"), "text": "out"}).encode(),
            lines_of({"image": "a\0.png", "text": "nul"}).encode(),
            lines_of({"text": "no picture"}).encode(),
            lines_of({"image": 5, "text": "a number"}).encode(),
            lines_of({"image": "b.png"}).encode(),
            lines_of({"image": "c.png", "text": ["a", "list"]}).encode(),
            lines_of({"image": "d.png", "text": "half a pair: \ud83d"}).encode(),
            lines_of({"image": "cut.png", "text": "cut"}).encode(),
        ]),
    })  # fmt: skip
    corpus = gathered(photos / "data.jsonl")
    assert captions(corpus) == {"a.png": "good"}
    reasons = list(skipped(corpus.folder).values())
    assert sorted(reasons) == sorted(
        4 * ["a bad line of JSON"]
        + ["a duplicate name", "no such picture"]
        + 3 * ["a path outside the folder"]
        + 2 * ["no picture named"]
        + ["no caption", "a caption that is not text", "a caption that is not text", "a damaged picture"]
    )
    lines = Path(corpus.folder, "skipped.jsonl").read_text("utf-8")
    assert "none of text, caption, prompt is among image" in lines
    assert "data.jsonl:2" in lines


STRAYS = {
    "log.jsonl": lines_of({"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.4}),
    "scores.jsonl": lines_of({"file_name": "a.png", "score": 5.5}, {"file_name": "sub/b.png", "score": 4}),
    "blank.jsonl": lines_of({"file_name": "a.png", "text": ""}, {"file_name": "sub/b.png", "text": None}),
    "metadata.jsonl": lines_of({"model": "SD 1.x", "text": "of something else"}),
    "empty.jsonl": "",
    "cut.jsonl": b'{"file_name": \n\xff\xfe',
    "backup.tar": tar_of({"notes.md": b"nothing to see"}),
    "empty.tar": tar_of({}),
    "zipped.tar": gzip.compress(tar_of({"0001.png": picture()})),
    "damaged.parquet": b"PAR1",
}


@pytest.mark.parametrize("stray", STRAYS)
def test_what_lies_beside_captioned_pictures_by_chance_does_not_stand_for_them(
    photos: Path, gathered: Gather, stray: str
) -> None:
    put(photos, {"a.png": picture(), "a.txt": "first", "sub/b.png": picture("blue"), "sub/b.TXT": "second"})
    put(photos, {"sub/bare.png": picture(), "._a.png": b"\0\5\x16\7", stray: STRAYS[stray]})
    corpus = gathered()
    assert captions(corpus) == {"a.png": "first", "sub/b.png": "second"}
    listed = skipped(corpus.folder)
    assert listed.pop("sub/bare.png") == "no caption"
    assert any(name.startswith(stray) for name in listed), listed


def test_a_list_speaks_for_what_it_names_and_text_files_for_the_rest(photos: Path, gathered: Gather) -> None:
    put(photos, {
        "a.png": picture(), "a.txt": "by text, which the list outweighs", "b.png": picture("blue"),
        "b.txt": "by text", "sub/c.png": picture("lime"), "sub/c.txt": "deeper", "d.png": picture("navy"),
        "metadata.jsonl": lines_of({"file_name": "./a.png", "text": "by list"}, {"file_name": "gone.png"}),
    })  # fmt: skip
    corpus = gathered()
    assert captions(corpus) == {"./a.png": "by list", "b.png": "by text", "sub/c.png": "deeper"}
    assert skipped(corpus.folder) == {"gone.png": "no caption", "d.png": "no caption"}


def test_a_tar_of_the_pictures_beside_it_gives_none_twice(photos: Path, gathered: Gather) -> None:
    copies = {"a.png": picture(), "a.txt": b"first", "further.png": picture("blue"), "further.txt": b"second"}
    put(photos, {"a.png": picture(), "a.txt": "first", "backup.tar": tar_of(copies)})
    corpus = gathered()
    assert captions(corpus) == {"a.png": "first", "backup.tar/further": "second"}
    assert skipped(corpus.folder) == {"backup.tar/a": "a copy of a picture next to the tar"}


def test_a_table_beside_captioned_pictures_needs_no_package(
    photos: Path, gathered: Gather, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    put(photos, {"a.png": picture(), "a.txt": "first", "index.parquet": b"PAR1"})
    corpus = gathered()
    assert captions(corpus) == {"a.png": "first"}
    assert skipped(corpus.folder) == {"index.parquet": "a parquet file, for which a package is missing"}


def test_a_table_without_captions_speaks_for_no_picture(photos: Path, gathered: Gather) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    put(photos, {"a.png": picture(), "a.txt": "by text"})
    parquet.write_table(arrow.table({"file_name": ["a.png"], "score": [5]}), photos / "scores.parquet")
    corpus = gathered()
    assert captions(corpus) == {"a.png": "by text"}
    assert skipped(corpus.folder) == {"scores.parquet": "a parquet file without pictures or captions"}


def test_pictures_that_a_table_names_are_not_called_bare(photos: Path, gathered: Gather) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    put(photos, {"d.png": picture("blue"), "e.png": picture(), "f.png": picture(), "f.txt": "by text"})
    rows = [{"image": {"bytes": None, "path": "d.png"}, "text": "by path"}]
    parquet.write_table(arrow.Table.from_pylist(rows), photos / "a.parquet")
    parquet.write_table(arrow.table({"image": ["e.png"], "text": ["plain"]}), photos / "b.parquet")
    corpus = gathered()
    expected = {"a.parquet:0": "by path", "b.parquet:0": "plain", "f.png": "by text"}
    assert captions(corpus) == expected and skipped(corpus.folder) == {}


# --- parquet ---------------------------------------------------------------------------------------


def test_parquet_rows_as_hugging_face_writes_them(photos: Path, gathered: Gather) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    put(photos, {"d.png": picture("blue")})
    rows = [
        {"image": {"bytes": picture(), "path": None}, "text": "by bytes"},
        {"image": {"bytes": None, "path": "d.png"}, "text": "by path"},
        {"image": {"bytes": picture()[:60], "path": None}, "text": "cut off"},
        {"image": None, "text": "none"},
        {"image": {"bytes": picture(), "path": None}, "text": None},
    ]
    parquet.write_table(arrow.Table.from_pylist(rows), photos / "train-0.parquet")
    parquet.write_table(arrow.table({"x": [1]}), photos / "train-1.parquet")
    (photos / "train-2.parquet").write_bytes(b"PAR1 this is not one PAR1")
    corpus = gathered()
    assert captions(corpus) == {"train-0.parquet:0": "by bytes", "train-0.parquet:1": "by path"}
    assert skipped(corpus.folder) == {
        "train-0.parquet:2": "a damaged picture",
        "train-0.parquet:3": "no picture named",
        "train-0.parquet:4": "no caption",
        "train-1.parquet": "a parquet file without pictures or captions",
        "train-2.parquet:0": "a damaged parquet file",
    }


def test_a_row_gives_its_picture_in_either_form(photos: Path) -> None:
    put(photos, {"d.png": picture()})
    settings = ImportSettings("s", SIZE, 0.0)
    for value in (picture(), {"bytes": picture(), "path": "x"}, {"bytes": None, "path": "d.png"}, "d.png"):
        made = row_item({"image": value, "text": "words"}, photos / "t.parquet", 3, settings).make()
        assert (made.entry.name, made.entry.caption, made.entry.width) == ("t.parquet:3", "words", 32)


def test_without_pyarrow_the_message_says_what_to_install(
    photos: Path, gathered: Gather, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(photos, {"train.parquet": b"PAR1"})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingDependency, match="pip install pyarrow"):
        gathered()


# --- webdataset tars -------------------------------------------------------------------------------


def test_tars_are_read_as_samples(photos: Path, gathered: Gather) -> None:
    (photos / "00.tar").write_bytes(
        tar_of({
            "0001.jpg": picture(kind="JPEG"), "0001.txt": b"by text", "0001.json": b"{}",
            "d/0002.json": b'{"caption": "by json", "width": 3}', "d/0002.PNG": picture(),
            "0003.png": picture(), "0004.txt": b"no picture", "0005.jpg": picture()[:70], "0005.txt": b"cut",
            "0006.png": picture(), "0006.json": b"[]", "./0001.jpg": b"",
        })
    )  # fmt: skip
    corpus = gathered()
    assert captions(corpus) == {"00.tar/0001": "by text", "00.tar/d/0002": "by json"}
    assert skipped(corpus.folder) == {
        "00.tar/./0001.jpg": "a duplicate name",
        "00.tar/0003": "no caption",
        "00.tar/0004": "a caption without a picture",
        "00.tar/0005": "a damaged picture",
        "00.tar/0006": "a bad line of JSON",
    }


def test_what_a_cut_off_tar_still_holds_is_used(photos: Path, gathered: Gather) -> None:
    whole = tar_of(
        {f"{n}.{end}": content for n in range(3) for end, content in (("png", picture()), ("txt", b"x"))}
    )
    (photos / "cut.tar").write_bytes(whole[: 4 * 1024 + 600])
    (photos / "zipped.tar").write_bytes(gzip.compress(whole))
    corpus = gathered()
    assert set(captions(corpus)) == {"cut.tar/0", "cut.tar/1"}
    reasons = skipped(corpus.folder)
    assert reasons["cut.tar"] == reasons["zipped.tar"] == "a tar that is damaged or compressed"


def test_our_own_shards_can_be_read_again(photos: Path, gathered: Gather, tmp_path: Path) -> None:
    put(photos, {"a.png": picture(), "a.txt": "a", "b.png": picture("blue"), "b.txt": "b"})
    first = gathered()
    again = gather(tmp_path / "again", [first.folder / "shards"], size=SIZE)
    assert [e.caption for e in again.entries] == [e.caption for e in first.entries]
    assert all(np.array_equal(again.picture(n), first.picture(n)) for n in range(2))


# --- the whole -------------------------------------------------------------------------------------


def test_the_split_is_a_share_and_goes_with_the_picture(photos: Path, gathered: Gather) -> None:
    contents = [bytes([n % 256, n // 256]) for n in range(3000)]
    share = sum(split_by_share(content, 0.1) == "held-out" for content in contents) / 3000
    assert 0.08 < share < 0.12
    assert all(split_by_share(content, 0.0) == "train" for content in contents)
    put(
        photos,
        {f"{n}.png": picture(size=(20, 20 + n // 2)) for n in range(40)}
        | {f"{n}.txt": "x" for n in range(40)},
    )
    by_name = {entry.name: entry.split for entry in gathered(held_out=0.5).entries}
    assert 3 < list(by_name.values()).count("held-out") < 37
    assert all(by_name[f"{n}.png"] == by_name[f"{n + 1}.png"] for n in range(0, 40, 2))  # copies


def test_several_places_have_names_of_their_own(photos: Path, gathered: Gather, tmp_path: Path) -> None:
    put(photos, {"a.png": picture(), "a.txt": "a"})
    put(tmp_path / "x" / "My Photos", {"a.png": picture("blue"), "a.txt": "b"})
    corpus = gathered(photos, tmp_path / "x" / "My Photos")
    assert [(e.source, e.caption) for e in corpus.entries] == [("my-photos", "a"), ("my-photos-2", "b")]
    assert "my-photos-2: 1 pictures\n  from: My Photos\n" in Path(corpus.folder, "NOTICE").read_text("utf-8")


def test_the_same_again_only_opens_it(photos: Path, gathered: Gather) -> None:
    put(photos, {"a.png": picture(), "a.txt": "a"})
    calls: list[int] = []
    gathered(progress=lambda *call: calls.append(1))
    gathered(progress=lambda *call: calls.append(1))
    assert len(calls) == 1
    put(photos, {"b.png": picture(), "b.txt": "b"})
    assert set(captions(gathered(progress=lambda *call: calls.append(1)))) == {"a.png", "b.png"}
    assert len(calls) == 3


@pytest.mark.parametrize("jobs", [1, 4])
def test_any_number_of_jobs_gives_the_same_set(photos: Path, tmp_path: Path, jobs: int) -> None:
    put(
        photos,
        {f"{n}.png": picture(size=(20 + n, 20)) for n in range(9)} | {f"{n}.txt": f"{n}" for n in range(8)},
    )
    corpus = gather(tmp_path / "set", [photos], size=SIZE, jobs=jobs)
    assert [entry.caption for entry in corpus.entries] == [f"{n}" for n in range(8)]
    assert skipped(corpus.folder) == {"8.png": "no caption"}


def test_nothing_usable_is_one_clear_error(photos: Path, gathered: Gather) -> None:
    with pytest.raises(NothingUsable, match=r"My Photos' contains no pictures \(it is empty\).*cat\.txt"):
        gathered()
    put(photos, {"a.heic": b"x", "b.heic": b"x", "c.mp4": b"x", "readme.txt": "words"})
    with pytest.raises(NothingUsable, match=r"2 x \.heic, 1 x \.mp4, 1 x \.txt"):
        gathered()
    put(photos, {"a.png": picture(), "b.png": picture(), "c.png": b"broken", "c.txt": "c"})
    with pytest.raises(NothingUsable) as nothing:
        gathered()
    assert "2 x no caption" in str(nothing.value)
    assert "1 x not a picture in a supported format" in str(nothing.value)
    assert "(cat.jpg, cat.txt)" in str(nothing.value)
    put(photos, {"a.txt": "now there is one"})
    assert len(gathered()) == 1  # and what was left of the failure is no hindrance


def test_places_and_numbers_that_cannot_be_are_refused(
    photos: Path, gathered: Gather, tmp_path: Path
) -> None:
    put(photos, {"a.png": picture(), "a.txt": "a"})
    refused = [
        ("does not exist", lambda: gathered(tmp_path / "absent")),
        ("neither a folder nor", lambda: gathered(photos / "a.png")),
        ("overlap", lambda: gather(photos / "set", [photos], size=SIZE)),
        ("overlap", lambda: gather(tmp_path, [photos], size=SIZE)),
        ("no folder of pictures", lambda: gather(tmp_path / "set", [], size=SIZE)),
        ("size 4 px", lambda: gathered(size=4)),
        ("held-out share 1.0", lambda: gathered(held_out=1.0)),
        ("held-out share nan", lambda: gathered(held_out=float("nan"))),
        ("jobs is 0", lambda: gathered(jobs=0)),
    ]
    for words, run in refused:
        with pytest.raises(InvalidRequest, match=words):
            run()
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("name", ["manifest.json", "NOTICE", "thesis.txt"])
def test_a_folder_with_other_things_is_left_alone(
    photos: Path, gathered: Gather, tmp_path: Path, name: str
) -> None:
    put(photos, {"a.png": picture(), "a.txt": "a"})
    put(tmp_path / "set", {name: '{"name": "a web page"}'})
    with pytest.raises(InvalidRequest, match=r"set' is not empty and holds no training set"):
        gathered()
    assert (tmp_path / "set" / name).read_text() == '{"name": "a web page"}'
    assert len(list((tmp_path / "set").iterdir())) == 1
