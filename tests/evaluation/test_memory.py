"""Detection of copies of training pictures."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from pochade.evaluation import copy_detection
from pochade.evaluation.copy_detection import ComparablePictures, equal_error, nearest
from pochade.evaluation.scorer_model import Embeddings
from pochade.training.corpus import Corpus, on_background


class ColourScorer:
    """Sees only which colour a thing has."""

    def embed_images(self, images: list[Image.Image]) -> Embeddings:
        things = [copy_detection.pixels(image).reshape(-1, 3) for image in images]
        means = np.stack([thing[thing.std(axis=1) > 0.1].mean(axis=0) for thing in things]) - 0.5
        unit = means / np.linalg.norm(means, axis=1, keepdims=True)
        return Embeddings(unit, unit)


SCORER: Any = ColourScorer()


def images(corpus: Corpus, indices: Any) -> list[Image.Image]:
    return [Image.fromarray(on_background(corpus.picture(index))) for index in indices]


def test_a_copy_is_nearest_to_its_original_however_it_is_laid_out(corpus: Corpus) -> None:
    rng = np.random.default_rng(0)
    kinds = range(6)  # one of each shape
    known = copy_detection.comparable(SCORER, images(corpus, kinds))
    copies = copy_detection.comparable(
        SCORER, [copy_detection.make_copy(image, rng) for image in images(corpus, kinds)]
    )
    index, similarity, distance = nearest(copies, known)
    assert index.tolist() == list(kinds)
    assert distance.max() < 0.2
    assert similarity.min() > 0.9


def test_a_mirror_image_is_a_copy(corpus: Corpus) -> None:
    (wedge,) = images(corpus, [4])
    flipped = wedge.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    known, drawn = copy_detection.comparable(SCORER, [wedge]), copy_detection.comparable(SCORER, [flipped])
    assert nearest(drawn, known)[2][0] == pytest.approx(0, abs=0.02)
    assert np.abs(drawn.pixels - known.pixels).max() > 0.5


def test_limits_tell_copies_from_other_drawings(corpus: Corpus) -> None:
    rng = np.random.default_rng(0)
    first, second = images(corpus, range(24)), images(corpus, range(49, 73))  # other shapes and colours
    comparable = copy_detection.comparable(SCORER, first)
    copy_thresholds = copy_detection.copy_thresholds(
        (
            comparable,
            copy_detection.comparable(SCORER, [copy_detection.make_copy(image, rng) for image in first]),
        ),
        (comparable, copy_detection.comparable(SCORER, second)),
    )
    assert copy_thresholds.found > 0.8
    assert copy_thresholds.mistaken < 0.2


def test_the_limit_is_where_both_errors_are_equal() -> None:
    assert equal_error(np.array([1.0, 2, 3, 6]), np.array([5.0, 7, 8, 9])) == 5
    limit = equal_error(np.array([1.0, 2]), np.array([8.0, 9]))
    assert 2 <= limit < 8


def test_pixels_are_of_the_thing_alone() -> None:
    near, far = Image.new("RGB", (64, 64), "white"), Image.new("RGB", (96, 96), "white")
    near.paste("red", (4, 4, 24, 24))
    far.paste("red", (30, 40, 90, 90))
    square = copy_detection.pixels(near).reshape(32, 32, 3)
    np.testing.assert_allclose(square, np.broadcast_to([1, 0, 0], (32, 32, 3)))
    assert copy_detection.pixels(far).reshape(32, 32, 3)[16, 16].tolist() == [1, 0, 0]
    assert isinstance(copy_detection.comparable(SCORER, [near]), ComparablePictures)
