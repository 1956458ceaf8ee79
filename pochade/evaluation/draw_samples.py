"""Draws the pictures to score: the normal pipeline, a fixed seed per prompt, every picture saved."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pochade.evaluation.report import Figure
from pochade.images.files import default_name, save_picture
from pochade.pipeline import Pipeline
from pochade.request import DEFAULTS

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class MeasureProgress:
    """Progress of a measure: `done` of `total` pictures. The last one carries the results."""

    measure: str
    done: int
    total: int
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    judged: tuple[dict[str, object], ...] = ()


@dataclass(frozen=True, kw_only=True)
class SampleDrawer:
    """Draws and saves the pictures.

    seed: of the first prompt of a set; prompt i has seed + i. steps, cfg_scale, speed: as in `Request`.
    """

    pipeline: Pipeline
    folder: Path
    seed: int = 0
    steps: int = DEFAULTS.steps
    cfg_scale: float = DEFAULTS.cfg_scale
    speed: str = "exact"
    _drawn: "dict[str, list[Image.Image]]" = field(default_factory=dict, repr=False)

    def draw(
        self, measure: str, prompts: Sequence[str], seeds: Sequence[int] | None = None
    ) -> "Iterator[MeasureProgress]":
        """Draw a set of pictures, yielding after each; then `drawn(measure)` returns them. A second call does
        nothing."""
        if measure in self._drawn:
            return
        seeds = range(self.seed, self.seed + len(prompts)) if seeds is None else seeds
        images = []
        yield MeasureProgress(measure=measure, done=0, total=len(prompts))
        for number, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            result = self.pipeline.txt2img(
                prompt, seed=seed, steps=self.steps, cfg_scale=self.cfg_scale, speed=self.speed
            )
            path = self.folder / "pictures" / measure / f"{number:03}-{default_name(prompt, seed)}"
            save_picture(result.images[0], path, result.infotexts[0])
            images.append(result.images[0])
            yield MeasureProgress(measure=measure, done=number + 1, total=len(prompts))
        self._drawn[measure] = images

    def drawn(self, measure: str) -> "list[Image.Image]":
        """The pictures of a drawn set."""
        return self._drawn[measure]
