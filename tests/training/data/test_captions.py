"""Captions: true, varied and in correct English."""

from dataclasses import replace

import numpy as np
import pytest

from pochade.training.corpus import CorpusEntry
from pochade.training.data.captions import caption, may_name_colour, noun_phrase, with_article


def entry(label: str, **changes: object) -> CorpusEntry:
    plain = CorpusEntry(
        file="a.npy", row=0, label=label, tags=(), style="flat style", source="a", licence="MIT", code="0",
        emoji="?", group="objects", subgroup="tool", mirrorable=True, colour="blue", colour_share=0.9,
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


APPLE = entry("red apple", tags=("fruit", "food", "apple", "diet"), colour="red")
KITE = entry("kite", tags=("fly", "soar"), colour="red")


@pytest.mark.parametrize(
    "expected",
    [
        *("an owl", "a kite", "an hourglass", "a unicorn", "a one-piece swimsuit", "an x-ray", "a ewe"),
        *("a euro banknote", "an umbrella", "an orange kite", "an onion"),
    ],
)
def test_articles(expected: str) -> None:
    assert with_article(expected.split(" ", 1)[1]) == expected


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("grapes", "grapes"), ("cactus", "a cactus"), ("skis", "skis"), ("sheaf of rice", "a sheaf of rice"),
        ("cooked rice", "cooked rice"), ("woman lifting weights", "a woman lifting weights"),
        ("mount fuji", "mount fuji"), ("face with rolling eyes", "a face with rolling eyes"),
        ("man, red hair", "a man, red hair"), ("ballet shoes", "ballet shoes"),
    ],
)  # fmt: skip
def test_articles_only_where_english_has_one(label: str, expected: str) -> None:
    assert noun_phrase(entry(label)) == expected


def test_the_colour_is_named_only_where_it_is_true_and_new() -> None:
    assert may_name_colour(KITE)
    assert noun_phrase(KITE, "orange") == "an orange kite"
    assert not may_name_colour(APPLE)  # the label names one
    assert not may_name_colour(replace(KITE, colour_share=0.5))
    assert not may_name_colour(replace(KITE, group="people-body"))
    assert not may_name_colour(replace(KITE, group="symbols"))
    assert not may_name_colour(entry("two hearts"))
    assert not may_name_colour(entry("mount fuji"))
    assert may_name_colour(entry("scarred cup"))  # "red" inside of a word is no colour


def test_captions_vary_as_promised() -> None:
    rng = np.random.default_rng(0)
    captions = [caption(KITE, rng) for _ in range(4000)]
    styled = np.mean([text.endswith(", flat style") for text in captions])
    assert 0.77 < styled < 0.83  # 80 %, five standard deviations
    subjects = {text.removesuffix(", flat style") for text in captions}
    assert subjects == {
        "kite", "a kite", "a red kite", "kite, fly", "kite, soar", "kite, fly, soar", "kite, soar, fly",
    }  # fmt: skip


def test_tags_are_new_words_at_most_three_in_any_order() -> None:
    rng = np.random.default_rng(0)
    captions = {caption(APPLE, rng, style_share=0) for _ in range(2000)}
    tagged = [text.split(", ")[1:] for text in captions if ", " in text]
    assert {len(tags) for tags in tagged} == {1, 2, 3}
    assert {tag for tags in tagged for tag in tags} == {"fruit", "food", "diet"}  # "apple" is in the label
    assert len(tagged) == 3 + 6 + 6  # every ordered choice


def test_the_same_state_gives_the_same_caption() -> None:
    assert [caption(APPLE, np.random.default_rng(seed)) for seed in range(20)] == [
        caption(APPLE, np.random.default_rng(seed)) for seed in range(20)
    ]


def test_the_background_is_said_when_given() -> None:
    text = caption(KITE, np.random.default_rng(0), style_share=1, background="orange")
    assert text.endswith(", on an orange background, flat style")


def test_one_caption_in_ten_is_in_another_language() -> None:
    rng = np.random.default_rng(0)
    abroad = replace(KITE, translations=("cerf-volant", "drachen", "cometa"))
    texts = [caption(abroad, rng, style_share=0) for _ in range(4000)]
    counts = [texts.count(label) for label in abroad.translations]
    assert sum(counts) == pytest.approx(400, rel=0.15) and min(counts) > 90
