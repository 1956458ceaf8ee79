"""The training set: unpacking, building, drawing, colours; on a made-up registry, without network."""

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha512
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pochade.errors import InvalidCheckpoint, MissingDependency
from pochade.training.corpus import (
    SOURCES,
    Corpus,
    DownloadError,
    Dropped,
    Package,
    Source,
    UntrustedArchive,
    build,
    contact_sheet,
    load,
    npm_pack,
    on_background,
)
from pochade.training.corpus.colours import dominant_colour
from pochade.training.corpus.concepts import plain_code, read_concepts
from pochade.training.corpus.packages import safe_path, unpack, unpacked
from pochade.training.corpus.rendering import BrokenPicture, fitted, from_svg, iconify_svg

SIZE = 32

WORDS = [
    ("1F34E", "red apple", ["fruit", "food", "apple"], 4, 42),
    ("1F989", "owl", ["animal", "bird", "wise"], 3, 35),
    ("263A-FE0F", "Smiling Face", ["face", "happy", ":-)"], 0, 0),
    ("1F468-200D-1F9B0", "man: red hair", ["adult"], 1, 23),
    ("1F446", "pointing left", ["hand"], 1, 16),
    ("1F1E9-1F1EA", "flag: Germany", ["DE"], 9, 98),
    ("1F170-FE0F", "A button (blood type)", ["a"], 8, 95),
    ("1F534", "red circle", ["circle"], 8, 96),
]
GROUPS = {
    "groups": {"0": "smileys-emotion", "1": "people-body", "3": "animals-nature", "4": "food-drink",
               "8": "symbols", "9": "flags"},
    "subgroups": {"0": "face-smiling", "16": "hand-fingers-open", "23": "person", "35": "animal-bird",
                  "42": "food-fruit", "95": "alphanum", "96": "geometric", "98": "country-flag"},
}  # fmt: skip


def archive_of(files: dict[str, bytes], path: Path) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def disc(colour: tuple[int, int, int], side: int = 2 * SIZE) -> Image.Image:
    """A disc that fills half of the square's width, in the middle."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    pixels = np.zeros((side, side, 4), np.uint8)
    pixels[np.hypot(x, y) < side / 4] = (*colour, 255)
    return Image.fromarray(pixels)


def webp(colour: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    disc(colour).save(stream, "WEBP", lossless=True)
    return stream.getvalue()


def words_files() -> dict[str, bytes]:
    data = [
        {"hexcode": code, "label": label, "tags": tags, "group": group, "subgroup": subgroup, "emoji": "?"}
        for code, label, tags, group, subgroup in WORDS
    ]
    data.append({"hexcode": "1F1E6", "label": "regional indicator A", "emoji": "?"})
    return {
        "package/en/data.json": json.dumps(data).encode(),
        "package/meta/groups.json": json.dumps(GROUPS).encode(),
        "package/de/data.json": b"[]",
    }


def file_pictures() -> dict[str, bytes]:
    return {
        "package/assets/1f34e.webp": webp((215, 30, 40)),
        "package/assets/1f989.webp": b"RIFF this is no picture",
        "package/assets/263a-fe0f.webp": webp((255, 215, 60)),
        "package/assets/1f1e9-1f1ea.webp": webp((0, 0, 0)),
        "package/assets/1f170-fe0f.webp": webp((0, 0, 0)),
        "package/assets/1f34e-1f3fb.webp": webp((0, 0, 0)),  # a skin tone: no concept has this code
    }


def icon_pictures() -> dict[str, bytes]:
    icons = {
        "width": 16,
        "height": 16,
        "icons": {
            "apple": {"body": '<circle cx="8" cy="8" r="4" fill="#00A0FF"/>'},
            "wide": {"body": '<path fill="#7a4a2a" d="M0 0h32v16H0z"/>', "width": 32},
            "nothing": {"body": "<g/>"},
            "wrong": {"body": "<g"},
        },
        "aliases": {"fruit": {"parent": "apple"}, "turned": {"parent": "apple", "hFlip": True}},
    }
    chars = {
        "1f34e": "fruit", "1f989": "wide", "263a": "nothing", "1f446": "turned", "1f534": "wrong",
    }  # fmt: skip
    return {
        "package/icons.json": json.dumps(icons).encode(),
        "package/chars.json": json.dumps(chars).encode(),
    }


class Registry:
    """A registry in a folder: packages by name, and how often each was fetched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fetched: list[str] = []

    def add(self, name: str, files: dict[str, bytes], members: tuple[str, ...] = ()) -> Package:
        content = archive_of(files, self.folder / f"{name}.tgz").read_bytes()
        digest = sha512(content).hexdigest()
        return Package(name=name, version="1.0", licence="CC0-1.0", credit="", sha512=digest, members=members)

    def fetch(self, package: Package, folder: Path) -> Path:
        self.fetched.append(package.name)
        target = folder / "archive.tgz"
        target.write_bytes((self.folder / f"{package.name}.tgz").read_bytes())
        return target


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    folder = tmp_path / "registry"
    folder.mkdir()
    return Registry(folder)


def sources_of(registry: Registry) -> tuple[Source, Source]:
    return (
        Source(
            name="round", style="round style", kind="files", package=registry.add("files", file_pictures())
        ),
        Source(
            name="icon", style="icon style", kind="iconify", package=registry.add("icons", icon_pictures())
        ),
    )


@pytest.fixture
def make(registry: Registry, tmp_path: Path) -> Callable[..., Corpus]:
    words = registry.add("words", words_files(), ("en/data.json", "meta/groups.json"))
    sources = sources_of(registry)

    def make(**changes: object) -> Corpus:
        arguments = {"sources": sources, "words": words, "size": SIZE, "fetch": registry.fetch, **changes}
        return build(tmp_path / "corpus", **arguments)  # type: ignore[arg-type]

    return make


# --- archives ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "package/../../evil",
        "/package/evil",
        "package/..",
        "evil",
        "package/C:/evil",
        "package\\..\\evil",
        "..",
    ],
)
def test_a_path_that_could_leave_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UntrustedArchive, match="outside of its folder"):
        safe_path(name)
    archive = archive_of({name: b"evil"}, tmp_path / "a.tgz")
    with pytest.raises(UntrustedArchive):
        unpack(archive, tmp_path / "in" / "folder")
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"a.tgz"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        member = tarfile.TarInfo("package/link")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(UntrustedArchive, match="link or a device"):
        unpack(tmp_path / "a.tgz", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_only_the_wanted_members_are_unpacked(registry: Registry, tmp_path: Path) -> None:
    package = registry.add("words", words_files(), ("en/data.json", "meta/groups.json"))
    folder = unpacked(package, tmp_path / "cache", registry.fetch)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"en/data.json", "meta/groups.json"}


def test_another_checksum_is_refused_and_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    package = replace(registry.add("words", words_files()), sha512="0" * 128)
    with pytest.raises(UntrustedArchive, match=r"words@1\.0.*pinned is 0000000000000000"):
        unpacked(package, tmp_path / "cache", registry.fetch)
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_npm_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependency, match=r"npm is needed.*emoji.*install Node"):
        npm_pack(SOURCES[0].package, tmp_path)


def test_a_failed_download_tells_npms_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[1:3] == ["pack", "@iconify-json/noto@1.2.9"]
        return subprocess.CompletedProcess(command, 1, "", "npm error code E404\nnpm error not found")

    monkeypatch.setattr("shutil.which", lambda _: "npm")
    monkeypatch.setattr("subprocess.run", fail)
    with pytest.raises(DownloadError, match=r"noto@1\.2\.9.*status 1.*code E404 npm error not found"):
        npm_pack(SOURCES[2].package, tmp_path)


# --- building ------------------------------------------------------------------------------------


def test_what_is_built(make: Callable[..., Corpus]) -> None:
    corpus = make()
    assert [(e.source, e.label, e.row) for e in corpus.entries] == [
        ("round", "red apple", 0),
        ("round", "smiling face", 1),
        ("icon", "red apple", 0),
        ("icon", "owl", 1),
    ]
    apple, face, blue, owl = corpus.entries
    assert (apple.colour, face.colour, blue.colour, owl.colour) == ("red", "yellow", "blue", "brown")
    assert apple.colour_share > 0.95
    assert (apple.tags, apple.group, apple.subgroup) == (
        ("fruit", "food", "apple"),
        "food-drink",
        "food-fruit",
    )
    assert (face.code, face.tags) == ("263a", ("face", "happy"))  # the emoticon is no word
    assert (apple.style, apple.licence) == ("round style", "CC0-1.0")
    assert corpus.picture(3).shape == (SIZE, SIZE, 4)
    assert corpus.manifest["counts"] == {"round": 2, "icon": 2}


def test_broken_pictures_are_skipped_and_listed(make: Callable[..., Corpus]) -> None:
    skipped = make().manifest["skipped"]
    assert set(skipped["round"]) == {"1f989"}
    assert set(skipped["icon"]) == {"263a", "1f446", "1f534"}
    assert "no opaque pixel" in skipped["icon"]["263a"]
    assert "no plain picture" in skipped["icon"]["1f446"]
    assert skipped["icon"]["1f534"].startswith("SVG")


def test_a_second_call_does_nothing(make: Callable[..., Corpus], registry: Registry) -> None:
    first, fetched = make(), list(registry.fetched)
    calls: list[str] = []
    second = make(progress=lambda name, done, total: calls.append(name))
    assert sorted(fetched) == ["files", "icons", "words"]
    assert (registry.fetched, calls) == (fetched, [])
    assert second.entries == first.entries


def test_an_interrupted_build_keeps_the_finished_sources(
    make: Callable[..., Corpus], registry: Registry, tmp_path: Path
) -> None:
    def stop(name: str, done: int, total: int) -> None:
        if name == "icon" and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(progress=stop)
    with pytest.raises(InvalidCheckpoint, match=r"manifest\.json"):
        load(tmp_path / "corpus")
    drawn: set[str] = set()
    corpus = make(progress=lambda name, done, total: drawn.add(name))
    assert drawn == {"icon"}
    assert len(corpus) == 4
    assert registry.fetched.count("files") == 1


def test_another_recipe_is_built_anew(make: Callable[..., Corpus], registry: Registry) -> None:
    make()
    small = make(size=16, dropped=Dropped(groups=frozenset({"food-drink", ""})))
    assert small.picture(0).shape == (16, 16, 4)
    assert {e.label for e in small.entries} == {"smiling face", "flag, germany", "owl"}
    assert len(registry.fetched) == 3  # the unpacked packages are used again


def test_an_interrupted_change_of_size_is_not_taken_for_the_old_set(make: Callable[..., Corpus]) -> None:
    make()

    def stop(name: str, done: int, total: int) -> None:
        if name == "icon":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(size=16, progress=stop)  # the first source's array is already small
    assert all(picture.shape == (SIZE, SIZE, 4) for picture in map(make().picture, range(4)))


def test_a_damaged_set_is_refused(make: Callable[..., Corpus], tmp_path: Path) -> None:
    make()
    folder = tmp_path / "corpus"
    np.save(folder / "pictures-icon.npy", np.zeros((1, SIZE, SIZE, 4), np.uint8))
    with pytest.raises(InvalidCheckpoint, match=r"pictures-icon\.npy.*row 1"):
        load(folder)
    (folder / "entries.jsonl").write_text("{", "utf-8")
    with pytest.raises(InvalidCheckpoint, match="damaged"):
        load(folder)
    with pytest.raises(InvalidCheckpoint, match="no training set"):
        load(tmp_path / "nowhere")


def test_the_arrays_are_mapped_and_read_only(make: Callable[..., Corpus]) -> None:
    corpus = make()
    assert all(isinstance(array, np.memmap) for array in corpus.arrays.values())
    with pytest.raises(ValueError, match="read-only"):
        corpus.picture(0)[0, 0] = 0


def test_the_pinned_packages_are_complete() -> None:
    assert (
        len({source.name for source in SOURCES}) == len({source.style for source in SOURCES}) == len(SOURCES)
    )
    for source in SOURCES:
        assert len(bytes.fromhex(source.package.sha512)) == 64
        assert source.package.licence in ("MIT", "Apache-2.0")  # what may be shipped inside the package
        assert source.package.credit


# --- concepts, pictures, colours -------------------------------------------------------------------


def test_mirroring_is_refused_where_it_changes_the_meaning(registry: Registry, tmp_path: Path) -> None:
    concepts = read_concepts(unpacked(registry.add("words", words_files()), tmp_path / "c", registry.fetch))
    mirrorable = {concept.label for concept in concepts.values() if concept.mirrorable}
    assert mirrorable == {"red apple", "owl", "smiling face", "man, red hair"}
    assert {concept.label for concept in concepts.values() if concept in Dropped()} == {
        "flag, germany", "a button (blood type)", "regional indicator a",
    }  # fmt: skip


def test_variation_selectors_do_not_matter() -> None:
    assert plain_code("1F468-200D-2764-FE0F") == plain_code("1f468-200d-2764") == "1f468-200d-2764"


def test_no_dark_fringe_after_scaling() -> None:
    """With straight alpha the black of the transparent pixels would bleed into the disc's edge."""
    picture = fitted(disc((255, 255, 255), 8 * SIZE), SIZE)
    visible = picture[picture[..., 3] > 16]
    assert visible[:, :3].min() >= 240
    assert 0 < (visible[:, 3] < 255).mean() < 0.5  # there is an edge to speak of


def test_wide_pictures_are_fitted_into_the_middle() -> None:
    opaque = fitted(Image.new("RGBA", (64, 32), "red"), SIZE)[..., 3] == 255
    assert opaque[SIZE // 4 : -SIZE // 4].all()
    assert not opaque[: SIZE // 4].any() and not opaque[-SIZE // 4 :].any()


def test_svg_is_drawn_in_place_and_colour() -> None:
    icons = {"icons": {"half": {"body": '<path fill="#0a0" d="M0 0h8v16H0z"/>'}}, "width": 16, "height": 16}
    picture = from_svg(iconify_svg(icons, "half"), SIZE)
    assert (picture[:, : SIZE // 2 - 4] == (0, 170, 0, 255)).all()
    assert (picture[:, SIZE // 2 + 4 :, 3] == 0).all()
    with pytest.raises(BrokenPicture, match="'other'"):
        iconify_svg(icons, "other")


@pytest.mark.parametrize(
    ("name", "samples"),
    [
        ("red", "#ff0000 #c62828 #f8312f"),
        ("orange", "#ff8c00 #ff6723 #f79329"),
        ("yellow", "#ffff00 #fcd53f #ffc107"),
        ("green", "#008000 #00d26a #8bc34a"),
        ("teal", "#008080 #26c6da #00b8a9"),
        ("blue", "#0000ff #0074ba #80d8ff"),
        ("purple", "#800080 #8d65c5 #7e57c2"),
        ("pink", "#ff69b4 #ffc0cb #f70a8d"),
        ("brown", "#8b4513 #6d4534 #a56953"),
        ("black", "#000000 #212121 #262626"),
        ("gray", "#808080 #9b9b9b #b0bec5"),
        ("white", "#ffffff #f4f4f4 #faf8ff"),
    ],
)
def test_colours_have_their_everyday_names(name: str, samples: str) -> None:
    for sample in samples.split():
        picture = np.asarray(Image.new("RGBA", (4, 4), sample))
        assert dominant_colour(picture) == (name, 1.0), sample


def test_transparent_pixels_have_no_colour() -> None:
    picture = np.zeros((4, 4, 4), np.uint8)
    picture[..., :3] = (255, 0, 0)
    assert dominant_colour(picture)[1] == 0.0
    picture[0] = (0, 0, 255, 255)
    picture[1, 0] = (255, 255, 0, 255)
    assert dominant_colour(picture) == ("blue", 0.8)


def test_pictures_are_laid_on_a_plain_colour() -> None:
    picture = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]], np.uint8)
    assert on_background(picture).tolist() == [[[200, 100, 0], [255, 255, 255], [244, 224, 204]]]
    assert on_background(picture, (0, 0, 50)).tolist() == [[[200, 100, 0], [0, 0, 50], [40, 20, 40]]]


def test_the_contact_sheet_shows_every_picture_once(make: Callable[..., Corpus], tmp_path: Path) -> None:
    corpus = make()
    contact_sheet(corpus, tmp_path / "sheet.png", 10, columns=3)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (2 * SIZE, 3 * SIZE, 3)
    tiles = [
        sheet[top : top + SIZE, left : left + SIZE].tobytes()
        for top in range(0, 2 * SIZE, SIZE)
        for left in range(0, 3 * SIZE, SIZE)
    ]
    expected = [on_background(corpus.picture(index)).tobytes() for index in range(4)]
    assert sorted(tiles) == sorted([*expected, *2 * [b"\xff" * (SIZE * SIZE * 3)]])
