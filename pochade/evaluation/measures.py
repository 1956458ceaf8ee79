"""The measures: each draws its pictures, yields progress and ends with its figures."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from pochade.evaluation import composed, concepts, copy_detection, likeness, real_images, sharpness
from pochade.evaluation import frechet as distributions
from pochade.evaluation.concepts import ConceptInStyle
from pochade.evaluation.draw_samples import MeasureProgress, SampleDrawer
from pochade.evaluation.report import Figure, with_goal
from pochade.evaluation.scorer_model import Scorer
from pochade.images.files import save_picture
from pochade.images.sheet import sheet as sheet_of
from pochade.pipeline import Pipeline
from pochade.training.corpus import Corpus, on_background

T = TypeVar("T")

LANCZOS = Image.Resampling.LANCZOS

PROMPTS = Path(__file__).parent / "prompts"

VARIED = ("a cat", "a tree", "a house", "a car", "a flower", "a smiling face", "a cake", "a fish")
SEEDS_EACH = 8
"""Prompts without a style, and the number of seeds of each, for the diversity of a model."""

FLOORS = 5
"""Sets of real pictures whose mean distance is the floor of the Frechet distance."""

COPIES = 300
"""Pairs of each kind that set the limits of what is called a copy."""


@dataclass(frozen=True, kw_only=True)
class MeasureContext:
    """The context that the measures share.

    styles: the requested ones. limit: most prompts of a set. corpus: None if not given. exact: returns the
    model's pipeline in f32, for its autoencoder. ceilings: figures of real pictures, by name.
    """

    drawer: SampleDrawer
    scorer: Scorer
    styles: tuple[str, ...]
    limit: int | None
    corpus: Corpus | None
    exact: Callable[[], Pipeline]
    ceilings: Mapping[str, float]

    def pairs(self) -> list[ConceptInStyle]:
        """The held-out prompts."""
        return self.some(
            [each for each in concepts.read(PROMPTS / "held_out.jsonl") if each.style in self.styles]
        )

    def some(self, prompts: Sequence[T]) -> list[T]:
        """At most `limit` prompts, spread evenly."""
        if self.limit is None or self.limit >= len(prompts):
            return list(prompts)
        return [prompts[index * len(prompts) // self.limit] for index in range(self.limit)]

    def figure(self, name: str, value: float, count: int) -> Figure:
        """A figure with its ceiling and its goal."""
        return with_goal(Figure(name=name, value=value, count=count, real=self.ceilings.get(name)))


def held_out(context: MeasureContext) -> Iterator[MeasureProgress]:
    """Pairs of concept and style that are not in the training set."""
    pairs = yield from _held_out_drawn(context)
    verdicts = concepts.score(context.scorer, pairs, context.drawer.drawn("held-out"))
    figures = (context.figure(name, share, len(pairs)) for name, share in concepts.shares(verdicts).items())
    yield _finished("held-out", len(pairs), figures, judged=verdicts)


def composed_prompts(context: MeasureContext) -> Iterator[MeasureProgress]:
    """Colours, backgrounds, counts and positions."""
    prompts = [each for each in composed.read(PROMPTS / "composed.jsonl") if each.style in context.styles]
    prompts = context.some(prompts)
    yield from context.drawer.draw("composed", [each.prompt for each in prompts])
    pictures = [np.asarray(image.convert("RGB")) for image in context.drawer.drawn("composed")]
    verdicts = composed.score(context.scorer, prompts, pictures)
    figures = (
        context.figure(name, float(np.mean(values)), len(values))
        for name, values in composed.by_figure(verdicts).items()
    )
    yield _finished("composed", len(prompts), figures, judged=verdicts)


def autoencoder(context: MeasureContext) -> Iterator[MeasureProgress]:
    """Reconstruction error of the autoencoder on held-out pictures, in f32."""
    if context.corpus is None:
        yield _left_out("autoencoder")
        return
    chosen = context.some(real_images.held_out_entries(context.corpus, context.styles))
    pipeline = context.exact()
    config = pipeline.networks
    side = config.traits.side
    noise, likenesses = [], []
    yield MeasureProgress(measure="autoencoder", done=0, total=len(chosen))
    for number, index in enumerate(chosen):
        before = Image.fromarray(on_background(context.corpus.picture(index))).resize((side, side), LANCZOS)
        (after,) = pipeline.decode(pipeline.encode_image(before))
        one, other = np.asarray(before), np.asarray(after.convert("RGB"))
        noise.append(likeness.psnr(one, other))
        likenesses.append(likeness.ssim(one, other))
        yield MeasureProgress(measure="autoencoder", done=number + 1, total=len(chosen))
    figures = (
        Figure(name="autoencoder, PSNR", value=float(np.mean(noise)), count=len(chosen), unit="dB"),
        Figure(name="autoencoder, SSIM", value=float(np.mean(likenesses)), count=len(chosen), unit=""),
    )
    yield _finished("autoencoder", len(chosen), map(with_goal, figures))


def frechet(context: MeasureContext) -> Iterator[MeasureProgress]:
    """Fréchet distance between the pictures of the held-out prompts and the real ones."""
    if context.corpus is None:
        yield _left_out("frechet")
        return
    pairs = yield from _held_out_drawn(context)
    known = real_images.index_by_pair(context.corpus)
    kept = [number for number, pair in enumerate(pairs) if (pair.code, pair.style) in known]
    indices = [known[pairs[number].code, pairs[number].style] for number in kept]
    if len(kept) <= distributions.AXES:
        note = (
            f"frechet: {len(kept)} pictures are too few, more than {distributions.AXES} are needed; skipped"
        )
        yield MeasureProgress(measure="frechet", done=0, total=0, notes=(note,))
        return
    drawn = [context.drawer.drawn("held-out")[number] for number in kept]
    rng = np.random.default_rng(0)
    truth = _points(context, _framed(context, indices))
    others = [
        _points(context, _framed(context, real_images.siblings(context.corpus, indices, rng)))
        for _ in range(FLOORS)
    ]
    axes = distributions.main_axes(np.concatenate([truth, *others]))
    floor = np.mean([distributions.frechet(truth @ axes, other @ axes) for other in others])
    figure = Figure(
        name="Frechet distance",
        value=distributions.frechet(truth @ axes, _points(context, drawn) @ axes),
        count=len(kept),
        unit="",
        real=float(floor),
        higher=False,
    )
    yield _finished("frechet", len(kept), [figure])


def crispness(context: MeasureContext) -> Iterator[MeasureProgress]:
    """Edges and plain areas of the held-out prompts' pictures against the real ones, and the white of their
    margins."""
    if context.corpus is None:
        yield _left_out("sharpness")
        return
    pairs = yield from _held_out_drawn(context)
    known = real_images.index_by_pair(context.corpus)
    kept = [number for number, pair in enumerate(pairs) if (pair.code, pair.style) in known]
    images = [context.drawer.drawn("held-out")[number] for number in kept]
    drawn = [sharpness.sharpness(image) for image in images]
    real = [
        sharpness.sharpness(real_images.framed(context.corpus, known[pair.code, pair.style], image.width))
        for pair, image in zip((pairs[number] for number in kept), images, strict=True)
    ]
    edges, unevenness = sharpness.ratios(drawn, real)
    whites = float(np.mean([each.white for each in drawn])), float(np.mean([each.white for each in real]))
    plain = "unevenness of plain areas, of real ones"
    figures = (
        Figure(name="edges, of real ones", value=edges, count=len(kept), unit="", real=1.0),
        Figure(name=plain, value=unevenness, count=len(kept), unit="", real=1.0),
        Figure(name="white margin", value=whites[0], count=len(kept), real=whites[1]),
    )
    yield _finished("sharpness", len(kept), map(with_goal, figures))


def diversity(context: MeasureContext) -> Iterator[MeasureProgress]:
    """Mean distance between pictures of one prompt over seeds."""
    prompts = [prompt for prompt in context.some(VARIED) for _ in range(SEEDS_EACH)]
    seeds = [context.drawer.seed + number % SEEDS_EACH for number in range(len(prompts))]
    yield from context.drawer.draw("diversity", prompts, seeds)
    points = _points(context, context.drawer.drawn("diversity"))
    sets = points.reshape(-1, SEEDS_EACH, points.shape[1])
    value = float(np.mean([distributions.mean_distance(each) for each in sets]))
    figure = Figure(
        name="diversity", value=value, count=len(prompts), unit="", real=context.ceilings.get("diversity")
    )
    yield _finished("diversity", len(prompts), [figure])


def memorisation(context: MeasureContext) -> Iterator[MeasureProgress]:
    """Share of pictures that copy training pictures, for held-out and for ordinary prompts."""
    if context.corpus is None:
        yield _left_out("memorisation")
        return
    yield from _held_out_drawn(context)
    yield from _sheet_drawn(context)
    learned = real_images.training_entries_of(context.corpus, context.styles)
    known = copy_detection.comparable(context.scorer, _framed(context, learned))
    limits = _copy_limits(context, learned)
    figures = []
    for name, measure in (("held-out prompts", "held-out"), ("sheet", "sheet")):
        drawn = copy_detection.comparable(context.scorer, context.drawer.drawn(measure))
        _, similarity, distance = copy_detection.nearest(drawn, known)
        copies = (similarity >= limits.similarity) & (distance <= limits.distance)
        figures.append(
            with_goal(
                Figure(
                    name=f"near-copies, {name}",
                    value=float(copies.mean()),
                    count=len(copies),
                    real=limits.mistaken,
                    higher=False,
                )
            )
        )
    note = (
        f"near-copies: cosine at least {limits.similarity:.3f}, distance at most {limits.distance:.3f};"
        " these "
        f"limits find {limits.found:.1%} of true copies and mistake {limits.mistaken:.1%} of other drawings "
        "of one concept"
    )
    yield _finished("memorisation", 0, figures, notes=(note,))


def sheet(context: MeasureContext) -> Iterator[MeasureProgress]:
    """A contact sheet of sixty-four prompts, for looking at."""
    prompts = yield from _sheet_drawn(context)
    path = context.drawer.folder / "sheet.png"
    save_picture(sheet_of(context.drawer.drawn("sheet"), prompts), path)
    yield _finished("sheet", len(prompts), (), notes=(f"sheet: {path.name}, to be judged by eye",))


MEASURES: Mapping[str, Callable[[MeasureContext], Iterator[MeasureProgress]]] = {
    "held-out": held_out,
    "composed": composed_prompts,
    "autoencoder": autoencoder,
    "frechet": frechet,
    "sharpness": crispness,
    "diversity": diversity,
    "memorisation": memorisation,
    "sheet": sheet,
}
"""All of them, in the order of the report."""


def _finished(
    measure: str,
    done: int,
    figures: Iterable[Figure],
    *,
    notes: tuple[str, ...] = (),
    judged: Sequence[dict[str, object]] = (),
) -> MeasureProgress:
    return MeasureProgress(
        measure=measure, done=done, total=done, figures=tuple(figures), notes=notes, judged=tuple(judged)
    )


def _left_out(measure: str) -> MeasureProgress:
    note = f"{measure}: skipped, because it needs real pictures; give a training set with --corpus"
    return MeasureProgress(measure=measure, done=0, total=0, notes=(note,))


def _held_out_drawn(context: MeasureContext) -> Generator[MeasureProgress, None, list[ConceptInStyle]]:
    pairs = context.pairs()
    yield from context.drawer.draw("held-out", [pair.prompt for pair in pairs])
    return pairs


def _sheet_drawn(context: MeasureContext) -> Generator[MeasureProgress, None, list[str]]:
    prompts = context.some((PROMPTS / "sheet.txt").read_text("utf-8").splitlines())
    yield from context.drawer.draw("sheet", prompts)
    return prompts


def _framed(context: MeasureContext, indices: Sequence[int]) -> list[Image.Image]:
    assert context.corpus is not None
    return [real_images.framed(context.corpus, index, context.corpus.size) for index in indices]


def _points(context: MeasureContext, images: Sequence[Image.Image]) -> copy_detection.Floats:
    return copy_detection.joint_embeddings(context.scorer.embed_images(images))


def _copy_limits(context: MeasureContext, learned: Sequence[int]) -> copy_detection.CopyThresholds:
    """Thresholds from training pictures paired with copies of themselves, and with the same concept in
    another style."""
    assert context.corpus is not None
    entries, rng = context.corpus.entries, np.random.default_rng(0)
    styles: dict[str, list[int]] = {}
    for index in learned:
        styles.setdefault(entries[index].code, []).append(index)
    pairs = [pair for drawings in styles.values() for pair in combinations(drawings, 2)]
    pairs = [pair for pair in pairs if entries[pair[0]].style != entries[pair[1]].style]
    chosen = [pairs[index] for index in rng.permutation(len(pairs))[:COPIES]]
    first = _framed(context, [one for one, _ in chosen])
    second = _framed(context, [other for _, other in chosen])
    comparable = copy_detection.comparable(context.scorer, first)
    return copy_detection.copy_thresholds(
        (
            comparable,
            copy_detection.comparable(
                context.scorer, [copy_detection.make_copy(image, rng) for image in first]
            ),
        ),
        (comparable, copy_detection.comparable(context.scorer, second)),
    )
