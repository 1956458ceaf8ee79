"""The results of an evaluation, as data and as a table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Unit = Literal["share", "dB", ""]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure.

    count: how many pictures it is of. real: the same measure on real pictures, which bounds what can be
    expected; goal: what a model of the starter's kind should reach, a bound or a range; None where there is
    none.
    higher: whether more is better.
    """

    name: str
    value: float
    count: int
    unit: Unit = "share"
    real: float | None = None
    goal: float | tuple[float, float] | None = None
    higher: bool = True

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached."""
        if self.goal is None:
            return None
        if isinstance(self.goal, tuple):
            return self.goal[0] <= self.value <= self.goal[1]
        return self.value >= self.goal if self.higher else self.value <= self.goal


GOALS: dict[str, float | tuple[float, float]] = {
    "concept, top-5": 0.80,
    "style": 0.95,
    "colour": 0.80,
    "background": 0.90,
    "count": 0.60,
    "beside": 0.60,
    "above": 0.60,
    "autoencoder, PSNR": 30.0,
    "autoencoder, SSIM": 0.90,
    "near-copies, held-out prompts": 0.05,
    "edges, of real ones": (0.85, 1.15),
    "unevenness of plain areas, of real ones": (0.85, 1.15),
    "white margin": 0.99,
}
"""What the starter is meant to reach, by the name of the figure."""


def with_goal(figure: Figure) -> Figure:
    """The figure beside its goal, if it has one."""
    return replace(figure, goal=GOALS.get(figure.name))


def shown(value: float | None, unit: Unit) -> str:
    """As in "87.5 %", "27.3 dB", "0.041"."""
    if value is None:
        return ""
    return {"share": f"{100 * value:.1f} %", "dB": f"{value:.1f} dB"}.get(unit, f"{value:.3f}")


def markdown(title: str, settings: dict[str, Any], figures: Sequence[Figure], notes: Sequence[str]) -> str:
    """The report as Markdown."""
    rows = [
        f"| {each.name} | {shown(each.value, each.unit)} | {shown(each.real, each.unit)} | {_goal(each)} "
        f"| {each.count} |"
        for each in figures
    ]
    lines = [
        f"# Evaluation of {title}",
        "",
        ", ".join(f"{name} {value}" for name, value in settings.items()),
        "",
        "| measure | figure | of real pictures | goal | pictures |",
        "| --- | ---: | ---: | --- | ---: |",
        *rows,
        "",
        *(f"- {note}" for note in notes),
        *([""] if notes else []),
        "In-house figures: the scorer was trained by this project on pictures of this kind. They compare",
        "models judged in the same way, and are not comparable with published CLIP scores or FID.",
    ]
    return "\n".join(lines) + "\n"


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    mark = " ✓" if figure.reached else ""
    if isinstance(figure.goal, tuple):
        low, high = (shown(each, figure.unit) for each in figure.goal)
        return f"{low} to {high}{mark}"
    bound = "at least" if figure.higher else "at most"
    return f"{bound} {shown(figure.goal, figure.unit)}{mark}"
