"""The scorer's two networks: equal on all engines, and sensitive to content."""

from typing import Any

import numpy as np
import pytest

from pochade.engines.shape_inference import infer_shapes
from pochade.evaluation.scorer_networks import ScorerConfig, picture_tower, style_tower, text_tower
from pochade.evaluation.word_vocabulary import Vocabulary, word_weights
from pochade.loading.engine_choice import choose, make_engine
from pochade.loading.parameter_shapes import with_config
from pochade.training.parameters import create

CONFIG = ScorerConfig(
    words=5, length=4, word_width=8, side=16, widths=(8, 16), blocks=(1, 1), concept_width=6, textures=7,
    styles=2, style_hidden=4, style_width=3,
)  # fmt: skip
WORDS = Vocabulary(("left", "right", "arrow"))


def parameters() -> dict[str, Any]:
    picture = {"picture": ((1, 3, 16, 16), "f32")}
    text = {"words": ((1, 4), "i64"), "shares": ((1, 4, 1), "f32")}
    shapes = {
        **infer_shapes(with_config(picture_tower, CONFIG), picture).parameters,
        **infer_shapes(with_config(text_tower, CONFIG), text).parameters,
        **infer_shapes(with_config(style_tower, CONFIG), {"texture": ((1, 7), "f32")}).parameters,
    }
    made = {name: tensor.numpy() for name, tensor in create(shapes, seed=0).items()}
    rng = np.random.default_rng(0)
    return {name: array + 0.1 * rng.standard_normal(array.shape, np.float32) for name, array in made.items()}


def run(engine: str, function: Any, **inputs: Any) -> np.ndarray:
    kinds = {
        name: (array.shape, "i64" if array.dtype.kind == "i" else "f32") for name, array in inputs.items()
    }
    made = make_engine(choose("cpu", "f32", engine))
    return made.compile(with_config(function, CONFIG), parameters(), kinds)(**inputs)  # type: ignore[no-any-return]


def read(engine: str, *texts: str) -> np.ndarray:
    rows = WORDS.rows(texts, CONFIG.length)
    return run(engine, text_tower, words=rows, shares=word_weights(rows))


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_engines_agree(engine: str) -> None:
    picture = np.random.default_rng(1).uniform(-1, 1, (2, 3, 16, 16)).astype(np.float32)
    texture = np.random.default_rng(2).random((2, 7), np.float32)
    for ours, reference, width in (
        (run(engine, picture_tower, picture=picture), run("numpy", picture_tower, picture=picture), 6),
        (run(engine, style_tower, texture=texture), run("numpy", style_tower, texture=texture), 3),
        (read(engine, "left arrow", "arrow"), read("numpy", "left arrow", "arrow"), 6),
    ):
        np.testing.assert_allclose(ours, reference, atol=2e-5)
        assert ours.shape == (2, width)


def test_the_order_of_words_matters_and_what_follows_them_does_not() -> None:
    one, other = read("numpy", "left arrow right", "right arrow left")
    assert np.abs(one - other).max() > 1e-3
    rows = WORDS.rows(["left arrow"], CONFIG.length)
    weights = word_weights(rows)
    rows[0, 2:] = WORDS.numbers["right"]  # where the shares are zero
    np.testing.assert_array_equal(
        run("numpy", text_tower, words=rows, shares=weights), read("numpy", "left arrow")
    )


def test_sizes_are_read_back() -> None:
    assert ScorerConfig.from_json(CONFIG.to_json()) == CONFIG
