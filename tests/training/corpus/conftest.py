"""A fake registry of tiny packages, and training sets built from it, without network."""

import io
import json
import tarfile
from collections.abc import Callable
from hashlib import sha512
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pochade.training.corpus import Corpus, CorpusSource, Package, build

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
    """Return a picture of a centred disc with half of the square's width."""
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

    def add(
        self, name: str, files: dict[str, bytes], members: tuple[str, ...] = (), licence: str = "CC0-1.0"
    ) -> Package:
        content = archive_of(files, self.folder / f"{name}.tgz").read_bytes()
        digest = sha512(content).hexdigest()
        return Package(
            name=name, version="1.0", licence=licence, credit="Somebody", sha512=digest, members=members
        )

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


def sources_of(registry: Registry) -> tuple[CorpusSource, CorpusSource]:
    return (
        CorpusSource(
            name="round", style="round style", kind="files", package=registry.add("files", file_pictures())
        ),
        CorpusSource(
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
