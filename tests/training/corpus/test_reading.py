"""Reading packages: icons, tiles, clip art, Debian archives."""

import io
import json
import struct
import tarfile
from collections import Counter
from hashlib import sha512
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pochade.training.corpus import (
    Concept,
    CorpusSource,
    DownloadError,
    Dropped,
    Package,
    UntrustedArchive,
    downloads,
)
from pochade.training.corpus.clip_art import ClipArtFacts, clip_art_concept, corrected_spelling, is_usable
from pochade.training.corpus.concepts import name_slug, read_concepts, read_names
from pochade.training.corpus.packages import unpack, unpacked
from pochade.training.corpus.rendering import from_svg_file, from_tile, in_pixels
from pochade.training.corpus.source_readers import WordLists, read_source
from pochade.training.corpus.tiles import tile_label
from tests.training.corpus.conftest import Registry, archive_of, words_files

PACKAGE = Package(name="p", version="1", licence="MIT", sha512="", credit="")


@pytest.fixture
def words(registry: Registry, tmp_path: Path) -> WordLists:
    short = {"1F989": ["night_bird", "owl"], "1F534": "red_ball", "1F9FF": "unknown"}
    files = words_files() | {"package/en/shortcodes/some.json": json.dumps(short).encode()}
    folder = unpacked(registry.add("words", files), tmp_path / "words", registry.fetch)
    concepts = read_concepts(folder)
    return WordLists(concepts, read_names(folder, concepts), Dropped())


def source_of(kind: str) -> CorpusSource:
    return CorpusSource(name="x", style="x style", kind=kind, package=PACKAGE)  # type: ignore[arg-type]


def test_labels_are_read_in_other_languages(tmp_path: Path) -> None:
    for name, content in words_files().items():
        path = tmp_path / name.removeprefix("package/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for language, label in {"fr": "Hibou", "de": "Owl", "es": "hibou"}.items():
        (tmp_path / language).mkdir(exist_ok=True)
        text = json.dumps([{"hexcode": "1F989", "label": label}, {"hexcode": "1F9FF", "label": "unknown"}])
        (tmp_path / language / "data.json").write_text(text)
    concepts = read_concepts(tmp_path)
    assert concepts["1f989"].translations == ("hibou",)  # neither twice nor the English word
    assert concepts["1f34e"].translations == ()


# --- icons by name ---------------------------------------------------------------------------------


def test_names_of_icons_are_looked_up(words: WordLists, tmp_path: Path) -> None:
    names = (
        "red-apple", "owl-1", "owl-2", "smiling-face", "man-red-hair", "school-backpack-1",
        "wizard-medium-dark-skin-tone", "letter-a", "flag-for-sweden", "old-name", "person-owl",
    )  # fmt: skip
    icons = {
        "icons": {name: {"body": "<g/>"} for name in names},
        "aliases": {"red-ball": {"parent": "old-name"}},
    }
    (tmp_path / "icons.json").write_text(json.dumps(icons))
    found = {each.name: each.concept for each in read_source(source_of("slugs"), tmp_path, words)}
    labels = {name: concept.label for name, concept in found.items()}
    assert labels == {
        "red-apple": "red apple",
        "owl-1": "owl",  # numbered: other drawings of the same
        "owl-2": "owl",
        "man-red-hair": "man, red hair",
        "smiling-face": "smiling face",
        "school-backpack-1": "school backpack",  # nobody knows it: its name must do
        "old-name": "red circle",  # by its alias, and the short name
    }
    assert found["owl-1"].code == "1f989"
    assert (found["school-backpack-1"].code, found["school-backpack-1"].emoji) == ("school-backpack", "")


def test_slugs_are_as_icon_sets_write_them() -> None:
    assert name_slug("Man's shoe") == "mans-shoe"
    assert name_slug("A button (blood type)") == "a-button-blood-type"
    assert name_slug("piñata") == "pinata"


# --- tiles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stem", "template", "label"),
    [
        ("falchion1", "{}", "falchion"),
        ("statue_cat", "{}", "cat statue"),
        ("scroll-blue", "{}", "blue scroll"),
        ("copper", "{} ring", ""),  # of unclear origin
        ("gem_lead", "{} wand", "lead wand"),
        ("robe_art1", "{}", "robe"),
        ("brilliant_blue", "{} potion", "brilliant blue potion"),
        ("01", "gold coins", "gold coins"),
        ("book_of_the_dead", "{}", "book of the dead"),
        ("i-magic", "{} potion", ""),
        ("merfolk_water", "{}", ""),
        ("long_sword2", "{}", ""),
    ],
)
def test_names_of_tiles_become_labels(stem: str, template: str, label: str) -> None:
    assert tile_label(stem, template) == label


def test_tiles_are_enlarged_without_blurring(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 4), np.uint8)
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "t.png")
    assert np.array_equal(from_tile(tmp_path / "t.png", 32, 128), pixels.repeat(4, 0).repeat(4, 1))


def test_only_tiles_that_stand_alone_are_read(words: WordLists, tmp_path: Path) -> None:
    for name in ("item/weapon/falchion1", "item/weapon/falchion2", "dngn/wall/brick", "mon/unique/boris"):
        path = tmp_path / "source/rltiles" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGBA", (32, 32), "red").save(path)
    found = list(read_source(source_of("tiles"), tmp_path, words))
    assert [(each.name, each.concept.code) for each in found] == [
        ("item/weapon/falchion1.png", "falchion"), ("item/weapon/falchion2.png", "falchion"),
    ]  # fmt: skip
    assert (found[0].concept.tags, found[0].concept.group) == (("weapon",), "objects")


# --- clip art --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("animals/birds/owl_on_branch_ganson.svg", True),
        ("signs_and_symbols/flags/europe/spain.svg", False),
        ("logos/tux.svg", False),
        ("animals/tux_the_penguin.svg", False),
        ("recreation/games/cards/simple/simple_d_6.svg", False),
        ("computer/icons/flat-theme/action/up.svg", False),
        ("signs_and_symbols/weather/sun.svg", True),
        ("transportation/roadsigns/stop.svg", False),
    ],
)
def test_folders_and_names_decide(path: str, expected: bool) -> None:
    assert is_usable(path) == expected


def concept_of(path: str, title: str, *keywords: str) -> Concept | None:
    english = {"owl", "branch", "dice", "apple", "corndog", "horse"}
    return clip_art_concept(ClipArtFacts(path, title, keywords), english, Counter(keywords))


def test_titles_names_and_keywords_become_labels() -> None:
    owl = concept_of("animals/birds/owl_on_branch_ganson.svg", "owl on branch", "owl", "hash")
    assert owl is not None
    assert (owl.label, owl.code, owl.tags, owl.group, owl.subgroup) == (
        "owl on branch", "owl-on-branch", ("owl",), "animals", "birds",
    )  # fmt: skip
    by_name = concept_of("recreation/dice.svg", "clipart by nicu buculei - piggybank", "game")
    assert by_name is not None and by_name.label == "dice"
    by_keyword = concept_of("animals/cavallo_architetto_01.svg", "cavallo", "mammal", "horse")
    assert by_keyword is not None and by_keyword.label == "horse"
    infer_shapes = concept_of("food/corndog_bw.svg", "corndog")
    assert infer_shapes is not None
    assert concept_of("office/pennello_01.svg", "pennello", "office") is None
    assert concept_of("animals/owl.svg", "owl", "logo") is None
    assert corrected_spelling("magnifing glass clothing") == "magnifying glass"


CLIP = """<svg xmlns="http://www.w3.org/2000/svg" width="{size}" height="{size}"><metadata><rdf:RDF>
<dc:title>Owl</dc:title><rdf:li>bird</rdf:li><cc:license rdf:resource="{licence}"/></rdf:RDF></metadata>
{body}</svg>"""


def test_only_public_domain_without_text_is_read(words: WordLists, tmp_path: Path) -> None:
    free, path = "http://web.resource.org/cc/PublicDomain", '<path fill="red" d="M0 0h9v9H0z"/>'
    bodies = {
        "free": CLIP.format(size=9, licence=free, body=path),
        "gpl": CLIP.format(size=9, licence="http://creativecommons.org/licenses/GPL/2.0/", body=path),
        "text": CLIP.format(size=9, licence=free, body="<text>Owl</text>"),
        "photo": CLIP.format(size=9, licence=free, body='<image xlink:href="data:"/>'),
    }
    folder = tmp_path / "share/openclipart/svg/animals"
    folder.mkdir(parents=True)
    for name, content in bodies.items():
        (folder / f"{name}.svg").write_text(content)
    (found,) = read_source(source_of("clip art"), tmp_path, words)
    assert (found.name, found.concept.label) == ("animals/free.svg", "owl")


@pytest.mark.parametrize(
    ("unit", "inch"), [("pt", 72), ("mm", 25.4), ("cm", 2.54), ("in", 1), ("px", 96), ("", 96)]
)
def test_sizes_in_any_unit_are_drawn(unit: str, inch: float, tmp_path: Path) -> None:
    """A square inch, half green, half blue; its inside is in pixels, as there is no viewBox."""
    body = '<path fill="#0a0" d="M0 0h48v96H0z"/><path fill="#00f" d="M48 0h48v96H48z"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{inch}{unit}" height="{inch}{unit}">{body}</svg>'
    (tmp_path / "a.svg").write_text(svg)
    picture = from_svg_file(tmp_path / "a.svg", 32).astype(int)
    assert np.abs(picture[:, :13] - (0, 170, 0, 255)).max() < 6
    assert np.abs(picture[:, 19:] - (0, 0, 255, 255)).max() < 6


def test_the_empty_page_around_a_drawing_is_cut_off(tmp_path: Path) -> None:
    """A disc of a tenth of the page; drawn again in its size, its edge is as sharp as that of a large one."""
    for name, radius, place in (("small", 5, 20), ("large", 48, 50)):
        circle = f'<circle cx="{place}" cy="{place}" r="{radius}" fill="red"/>'
        (tmp_path / name).write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100">{circle}</svg>'
        )
    small, large = (from_svg_file(tmp_path / name, 64).astype(int) for name in ("small", "large"))
    assert small[32, 2, 3] == small[32, -3, 3] == 255
    assert np.abs(small[..., 3] - large[..., 3]).mean() < 4


def test_a_view_box_stays_as_it_is() -> None:
    assert (
        in_pixels('<svg width="1in" height="2in" viewBox="0 0 5 5">')
        == '<svg width="96" height="192" viewBox="0 0 5 5">'
    )
    assert in_pixels('<svg width="100%" height="2in">') == '<svg width="100%" height="192">'
    assert in_pixels("no drawing") == "no drawing"


# --- Debian ----------------------------------------------------------------------------------------


def deb_of(files: dict[str, bytes], path: Path) -> bytes:
    archive_of(files, path)
    members = {"debian-binary": b"2.0\n", "control.tar.gz": b"odd", "data.tar.gz": path.read_bytes()}
    content = b"!<arch>\n"
    for name, member in members.items():
        content += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(member):<10}`\n".encode() + member
        content += b"\n" * (len(member) % 2)
    return content


def test_a_deb_is_downloaded_and_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deb = deb_of({"./usr/share/a.svg": b"drawing", "./usr/share/doc/b": b"text"}, tmp_path / "data")
    pool = tmp_path / "mirror" / "pool" / "a"
    pool.mkdir(parents=True)
    (pool / "a.deb").write_bytes(deb)
    monkeypatch.setattr(downloads, "MIRRORS", (f"file://{tmp_path}/gone/", f"file://{tmp_path}/mirror/"))
    package = Package(
        registry="debian", name="a", version="1:2", path="pool/a/a.deb", licence="", credit="",
        sha512=sha512(deb).hexdigest(), members=("share/a",),
    )  # fmt: skip
    folder = unpacked(package, tmp_path / "cache")
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        "share/a.svg"
    }
    monkeypatch.setattr(downloads, "MIRRORS", (f"file://{tmp_path}/gone/",))
    with pytest.raises(DownloadError, match=r"'a@1:2' could not be downloaded.*gone"):
        unpacked(package, tmp_path / "elsewhere")


def test_debians_links_are_left_out_and_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz") as tar:
        for name, kind in (("x/link", tarfile.SYMTYPE), ("x/hard", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        member = tarfile.TarInfo("x/file")
        member.size = 2
        tar.addfile(member, io.BytesIO(b"ok"))
    unpack(tmp_path / "a.tar.xz", tmp_path / "out", links="leave out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]


@pytest.mark.parametrize(
    "content", [b"", b"not a deb at all", b"!<arch>\n", b"!<arch>\n" + struct.pack("60s", b"x")]
)
def test_a_damaged_deb_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.deb").write_bytes(content)
    with pytest.raises(UntrustedArchive, match=r"a\.deb"):
        unpack(tmp_path / "a.deb", tmp_path / "out")
