"""Building a training set from packages: results, and resuming after an interruption."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pochade.errors import InvalidCheckpoint
from pochade.training.corpus import SOURCES, Corpus, Dropped, contact_sheet, load, on_background
from pochade.training.corpus.rendering import fitted
from tests.training.corpus.conftest import SIZE, Registry, disc


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
    assert (apple.width, apple.height, apple.name, apple.caption) == (SIZE, SIZE, "1f34e", "")
    assert corpus.picture(3).shape == (SIZE, SIZE, 4)
    assert {e.split for e in corpus.entries} <= {"train", "held-out"}
    assert corpus.manifest["sources"]["round"] | {"reasons": {}, "held_out": 0} == {
        "style": "round style", "use": "starter", "from": "files@1.0 (npm)", "licence": "CC0-1.0",
        "credit": "Somebody", "pictures": 2, "held_out": 0, "skipped": 1, "reasons": {},
    }  # fmt: skip


def test_the_pictures_are_those_that_were_drawn(make: Callable[..., Corpus]) -> None:
    corpus = make()
    assert np.array_equal(corpus.picture(0), fitted(disc((215, 30, 40)), SIZE))
    expected = fitted(disc((0, 160, 255)), SIZE)  # the same disc, drawn by another renderer
    assert np.abs(corpus.picture(2).astype(int) - expected).mean() < 4


def test_broken_pictures_are_skipped_and_listed(make: Callable[..., Corpus], tmp_path: Path) -> None:
    corpus = make()
    lines = Path(corpus.folder, "skipped.jsonl").read_text("utf-8").splitlines()
    skipped = {(skip["source"], skip["name"]): skip["reason"] for skip in map(json.loads, lines)}
    assert skipped == {
        ("round", "1f989"): "a damaged picture",
        ("icon", "263a"): "an empty picture",
        ("icon", "1f446"): "an icon that is not a plain picture or alias",
        ("icon", "1f534"): "an SVG that cannot be drawn",
    }
    assert corpus.manifest["sources"]["icon"]["skipped"] == 3
    assert corpus.manifest["sources"]["icon"]["reasons"]["an SVG that cannot be drawn"] == 1


def test_the_notice_names_licences_and_credits(make: Callable[..., Corpus]) -> None:
    notice = Path(make().folder, "NOTICE").read_text("utf-8")
    assert "round: 2 pictures\n  from: files@1.0 (npm)\n  licence: CC0-1.0\n  credit: Somebody\n" in notice


def test_the_sheet_has_a_row_for_each_style(make: Callable[..., Corpus]) -> None:
    corpus = make()
    sheet = np.asarray(Image.open(corpus.folder / "contact-sheet.png"))
    assert sheet.shape == (2 * (SIZE + 16), 12 * SIZE, 3)
    first = [on_background(corpus.picture(index)).tobytes() for index in (0, 1)]
    tiles = [sheet[16 : 16 + SIZE, left : left + SIZE].tobytes() for left in (0, SIZE)]
    assert sorted(tiles) == sorted(first)
    assert sheet[:16].min() < 100 < sheet[:16].max()  # there is a title


def test_a_second_call_does_nothing(make: Callable[..., Corpus], registry: Registry) -> None:
    first, fetched = make(), list(registry.fetched)
    calls: list[str] = []
    second = make(progress=lambda name, done, total: calls.append(name), jobs=2)
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
    assert drawn == {"icon"}  # the other one is only opened
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


def test_the_pinned_packages_are_complete() -> None:
    assert (
        len({source.name for source in SOURCES}) == len({source.style for source in SOURCES}) == len(SOURCES)
    )
    for source in SOURCES:
        assert len(bytes.fromhex(source.package.sha512)) == 64
        assert source.package.licence in ("MIT", "Apache-2.0", "CC-BY-4.0", "CC0-1.0", "public domain")
        assert source.package.credit
        assert bool(source.package.path) == (source.package.registry == "debian")


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
