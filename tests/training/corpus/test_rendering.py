"""Concepts, drawn pictures and their colours."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pochade.training.corpus import Dropped, Unusable, on_background
from pochade.training.corpus.colours import dominant_colour
from pochade.training.corpus.concepts import plain_code, read_concepts
from pochade.training.corpus.packages import unpacked
from pochade.training.corpus.rendering import fitted, from_svg, iconify_svg
from tests.training.corpus.conftest import SIZE, Registry, disc, words_files


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
    with pytest.raises(Unusable, match="alias: other"):
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
