"""Runs an evaluation: prepares the context, runs the measures, writes the report."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pochade.atomic import replacing
from pochade.checkpoints.write import write_json
from pochade.errors import InvalidRequest
from pochade.evaluation import composed, concepts, scorer_model
from pochade.evaluation.draw_samples import MeasureProgress, SampleDrawer
from pochade.evaluation.measures import MEASURES, PROMPTS, MeasureContext
from pochade.evaluation.report import Figure, markdown
from pochade.pipeline import Pipeline
from pochade.training.corpus import load as load_corpus


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What to measure, and how. Fields as in `pochade evaluate --help`."""

    output: Path
    corpus: Path | None = None
    steps: int = 20
    guidance: float = 7.0
    speed: str = "exact"
    seed: int = 0
    measures: tuple[str, ...] = tuple(MEASURES)
    styles: tuple[str, ...] = ()
    limit: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in self.measures:
            if name not in MEASURES:
                raise InvalidRequest(f"measure '{name}' is unknown; one of: {', '.join(MEASURES)}")
        if self.limit is not None and self.limit < 1:
            raise InvalidRequest(f"limit is {self.limit}; it must be at least 1")
        known = prompted_styles()
        for style in self.styles:
            if style not in known:
                raise InvalidRequest(f"no prompt asks for the style '{style}'; one of: {', '.join(known)}")


def prompted_styles() -> list[str]:
    """The styles that occur in the prompts."""
    of_concepts = {pair.style for pair in concepts.read(PROMPTS / "held_out.jsonl")}
    return sorted(of_concepts | {each.style for each in composed.read(PROMPTS / "composed.jsonl")})


def evaluate(order: EvaluationOptions, load: Callable[..., Pipeline]) -> Iterator[MeasureProgress]:
    """Measure a model and write `evaluation.json` and `evaluation.md` at the end; yields progress.

    load: returns the model's pipeline; it is called again with precision="f32" if needed. Raises
    InvalidRequest for invalid options, InvalidCheckpoint for a damaged model or corpus, OutputError if the
    report cannot be written.
    """
    corpus = None if order.corpus is None else load_corpus(order.corpus)
    drawer = SampleDrawer(
        pipeline=load(),
        folder=order.output,
        seed=order.seed,
        steps=order.steps,
        cfg_scale=order.guidance,
        speed=order.speed,
    )
    context = MeasureContext(
        drawer=drawer,
        scorer=scorer_model.load(threads=order.threads),
        styles=order.styles if order.styles else tuple(prompted_styles()),
        limit=order.limit,
        corpus=corpus,
        exact=lambda: load(precision="f32"),
        ceilings=ceilings(),
    )
    ends = []
    for name in order.measures:
        for progress in MEASURES[name](context):
            yield progress
        ends.append(progress)
    write_report(order, drawer.pipeline, ends)


def ceilings() -> dict[str, float]:
    """What real pictures reach, measured once when the scorer was trained (`pochade.evaluation.ceilings`)."""
    shares: dict[str, float] = json.loads((scorer_model.scorer_folder() / "ceilings.json").read_text("utf-8"))
    return shares


def write_report(order: EvaluationOptions, pipeline: Pipeline, ends: Sequence[MeasureProgress]) -> None:
    """Write both files. ends: the last progress of each measure."""
    figures = [figure for end in ends for figure in end.figures]
    notes = [note for end in ends for note in end.notes]
    name = pipeline.checkpoint.name
    write_json(
        order.output / "evaluation.json",
        {
            "model": name,
            "model_hash": pipeline.model_hash,
            "settings": settings(order),
            "figures": [as_json(figure) for figure in figures],
            "notes": notes,
            "judged": {end.measure: list(end.judged) for end in ends if end.judged},
        },
    )
    with replacing(order.output / "evaluation.md") as file:
        file.write(markdown(name, settings(order), figures, notes).encode())


def settings(order: EvaluationOptions) -> dict[str, Any]:
    """The settings that the figures depend on, besides the model."""
    fields: dict[str, Any] = {"seed": order.seed, "steps": order.steps, "guidance": order.guidance}
    if order.speed != "exact":
        fields["speed"] = order.speed
    if order.styles:
        fields["styles"] = ", ".join(order.styles)
    if order.limit is not None:
        fields["limit"] = order.limit
    return fields


def as_json(figure: Figure) -> dict[str, Any]:
    """A figure with whether its goal is reached."""
    return {**asdict(figure), "reached": figure.reached}
