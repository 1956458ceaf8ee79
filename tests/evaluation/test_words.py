"""Tokenization of texts for the scorer."""

import numpy as np

from pochade.evaluation.word_vocabulary import (
    NOTHING,
    UNKNOWN,
    Vocabulary,
    build_vocabulary,
    split,
    word_weights,
)


def test_words_are_what_people_separate() -> None:
    assert split("Women's room, 3D style") == ["women's", "room", "3d", "style"]
    assert split("up-right arrow") == ["up", "right", "arrow"]


def test_rows_are_filled_and_cut() -> None:
    words = build_vocabulary(["a red fox", "fox, red"])
    assert words.known == ("a", "fox", "red")
    a, fox, red = (words.numbers[word] for word in words.known)
    rows = words.rows(["a red fox", "", "blue fox", "fox fox fox fox"], 3)
    assert rows.tolist() == [[a, red, fox], [NOTHING] * 3, [UNKNOWN, fox, NOTHING], [fox, fox, fox]]
    assert rows.max() < len(words)


def test_every_word_of_a_text_weighs_the_same() -> None:
    rows = Vocabulary(("fox", "red")).rows(["red fox", "fox", ""], 4)
    assert word_weights(rows)[..., 0].tolist() == [[0.5, 0.5, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert word_weights(rows).dtype == np.float32
