"""The measures on a fake model that returns pictures from a list."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pochade.evaluation import MEASURES, concepts, measures, real_images
from pochade.evaluation.concepts import ConceptInStyle
from pochade.evaluation.draw_samples import MeasureProgress, SampleDrawer
from pochade.evaluation.measures import MeasureContext
from pochade.evaluation.scorer_model import Embeddings
from pochade.pipeline import Result
from pochade.training.corpus import Corpus
from tests.evaluation.conftest import COLOURS


@dataclass(frozen=True)
class Painter:
    """A pipeline that draws by a function of prompt and seed."""

    paint: Callable[[str, int], Image.Image]

    def txt2img(self, prompt: str, *, seed: int, steps: int, cfg_scale: float, speed: str) -> Result:
        assert (steps, cfg_scale, speed) == (3, 4.0, "balanced")
        return Result([self.paint(prompt, seed)], [seed], [f"{prompt} {seed}"])


class PixelScorer:
    """Places pictures by eight by eight pixels; texts mean nothing to it."""

    labels = ("disc", "box")
    styles = tuple(COLOURS)
    style_embeddings = np.ones((2, 192), np.float32)

    def embed_images(self, images: list[Image.Image]) -> Embeddings:
        small = [
            np.asarray(image.convert("RGB").resize((8, 8)), np.float32).ravel() - 128 for image in images
        ]
        unit = np.stack(small) / np.linalg.norm(np.stack(small), axis=1, keepdims=True)
        return Embeddings(unit, unit)

    def embed_texts(self, texts: Any) -> np.ndarray:
        return np.ones((len(texts), 192), np.float32)


def context(
    paint: Callable[[str, int], Image.Image], folder: Path, corpus: Corpus | None, **fields: Any
) -> MeasureContext:
    pipeline: Any = Painter(paint)
    scorer: Any = PixelScorer()
    return MeasureContext(
        drawer=SampleDrawer(pipeline=pipeline, folder=folder, steps=3, cfg_scale=4.0, speed="balanced"),
        scorer=scorer,
        corpus=corpus,
        exact=lambda: pipeline,
        **{"styles": tuple(COLOURS), "limit": None, "ceilings": {"style": 0.75}, **fields},
    )


def ended(found: Iterator[MeasureProgress]) -> MeasureProgress:
    *_, last = found
    return last


def noise(prompt: str, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (96, 96, 3), np.uint8))


def text_of(path: Path) -> str:
    with Image.open(path) as image:
        return str(image.info["parameters"])


def test_every_measure_has_its_name() -> None:
    assert tuple(measures.MEASURES) == MEASURES


@pytest.mark.parametrize("name", ["autoencoder", "frechet", "sharpness", "memorisation"])
def test_without_a_corpus_it_is_said_what_is_left_out(name: str, tmp_path: Path) -> None:
    last = ended(measures.MEASURES[name](context(noise, tmp_path, None)))
    assert last.figures == ()
    assert last.notes[0].startswith(f"{name}: skipped") and "--corpus" in last.notes[0]
    assert not any(tmp_path.iterdir())


def test_pictures_are_drawn_once_and_kept_with_their_text(tmp_path: Path) -> None:
    drawn: list[tuple[str, int]] = []

    def paint(prompt: str, seed: int) -> Image.Image:
        drawn.append((prompt, seed))
        return noise(prompt, seed)

    here = context(paint, tmp_path, None, limit=3)
    first, second = ended(measures.held_out(here)), ended(measures.held_out(here))
    assert first == second
    assert [seed for _, seed in drawn] == [0, 1, 2]
    files = sorted((tmp_path / "pictures" / "held-out").iterdir())
    assert [text_of(path) for path in files] == [f"{p} {s}" for p, s in drawn]
    assert {figure.name: figure.real for figure in first.figures}["style"] == 0.75
    assert len(first.judged) == 3


def test_a_limit_takes_prompts_from_the_whole_list(tmp_path: Path) -> None:
    here = context(noise, tmp_path, None, limit=4)
    assert here.some(range(8)) == [0, 2, 4, 6]
    assert here.some(range(3)) == [0, 1, 2]


def test_only_the_styles_that_were_asked_for_are_drawn(tmp_path: Path) -> None:
    here = context(noise, tmp_path, None, styles=("noto style",), limit=4)
    assert {pair.style for pair in here.pairs()} == {"noto style"}
    judged = ended(measures.composed_prompts(here)).judged
    assert all(str(verdict["prompt"]).endswith("noto style") for verdict in judged)


@pytest.fixture
def own_pairs(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> list[ConceptInStyle]:
    """In place of the shipped prompts: sixty concepts of the shapes."""
    pairs = [
        ConceptInStyle(prompt=f"{number}", label=entry.label, style=entry.style, code=entry.code)
        for number, entry in enumerate(corpus.entries[18:78])
    ]
    monkeypatch.setattr(concepts, "read", lambda path: pairs)
    return pairs


def test_real_pictures_are_as_near_as_real_pictures_and_noise_is_far(
    corpus: Corpus, own_pairs: list[ConceptInStyle], tmp_path: Path
) -> None:
    known = real_images.index_by_pair(corpus)

    def truth(prompt: str, seed: int) -> Image.Image:
        pair = own_pairs[int(prompt)]
        return real_images.framed(corpus, known[pair.code, pair.style], 96)

    (near,) = ended(measures.frechet(context(truth, tmp_path, corpus))).figures
    (far,) = ended(measures.frechet(context(noise, tmp_path, corpus))).figures
    assert near.value == pytest.approx(0, abs=1e-6)
    assert near.real is not None and near.real > 0
    assert far.value > 3 * near.real
    assert (near.real, near.count, near.higher) == (far.real, 60, False)
    few = ended(measures.frechet(context(noise, tmp_path, corpus, limit=8)))
    assert few.figures == () and "too few" in few.notes[0]


def test_real_pictures_are_as_sharp_as_real_ones_and_blurred_ones_are_not(
    corpus: Corpus, own_pairs: list[ConceptInStyle], tmp_path: Path
) -> None:
    known = real_images.index_by_pair(corpus)

    def truth(prompt: str, seed: int) -> Image.Image:
        pair = own_pairs[int(prompt)]
        return real_images.framed(corpus, known[pair.code, pair.style], 96)

    def soft(prompt: str, seed: int) -> Image.Image:
        return truth(prompt, seed).filter(ImageFilter.GaussianBlur(2)).point(lambda value: value - 4)

    edges, plain, white = ended(measures.crispness(context(truth, tmp_path / "truth", corpus))).figures
    assert (edges.value, plain.value, white.value) == (1.0, 1.0, 1.0)
    assert edges.reached and plain.reached and white.reached and edges.count == 60
    edges, plain, white = ended(measures.crispness(context(soft, tmp_path / "soft", corpus))).figures
    assert edges.value < 0.6 and white.value == 0.0
    assert edges.reached is False and white.reached is False


def test_a_model_that_repeats_its_training_pictures_is_found_out(
    corpus: Corpus, own_pairs: list[ConceptInStyle], tmp_path: Path
) -> None:
    learned = real_images.training_entries_of(corpus, tuple(COLOURS))

    def repeat(prompt: str, seed: int) -> Image.Image:
        return real_images.framed(corpus, learned[seed % len(learned)], 96)

    shares = [
        figure.value for figure in ended(measures.memorisation(context(repeat, tmp_path, corpus))).figures
    ]
    assert min(shares) > 0.9
    shares = [
        figure.value for figure in ended(measures.memorisation(context(noise, tmp_path, corpus))).figures
    ]
    assert max(shares) == 0


def test_diversity_is_over_seeds_of_one_prompt(tmp_path: Path) -> None:
    def same(prompt: str, seed: int) -> Image.Image:
        return noise(prompt, sum(map(ord, prompt)))

    (none,) = ended(measures.diversity(context(same, tmp_path, None))).figures
    (much,) = ended(measures.diversity(context(noise, tmp_path, None))).figures
    assert none.value == pytest.approx(0, abs=1e-6)
    assert much.value > 0.5
    assert none.count == 64


def test_the_sheet_shows_all_its_prompts(tmp_path: Path) -> None:
    last = ended(measures.sheet(context(noise, tmp_path, None)))
    assert last.done == 64
    with Image.open(tmp_path / "sheet.png") as page:
        assert page.width > 8 * 100
