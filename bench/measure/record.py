"""What was measured, as numbers, as a table and as a line of JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

NOISY = 2.0
"""Where the slowest evaluation took more than this many times the fastest, nothing can be concluded."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One contender of one run.

    seconds: of each evaluation. processor_s: processor time of each, all threads together.
    others_s: processor time that everything else on the machine took meanwhile, None if unknown.
    error: relative to the reference, Frobenius norm. phases, first_phases: seconds of getting ready with
    compiled graphs on the disk, and without. peak_bytes, first_peak_bytes: the most memory, likewise.
    """

    seconds: Sequence[float]
    processor_s: Sequence[float]
    others_s: Sequence[float] | None
    error: float
    threads: int
    phases: Mapping[str, float]
    peak_bytes: int
    first_phases: Mapping[str, float] | None = None
    first_peak_bytes: int | None = None

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def spread(self) -> float:
        """The slowest evaluation over the fastest."""
        return max(self.seconds) / min(self.seconds)


def ratio(ours: Measured, theirs: Measured) -> float:
    """The ratio of medians: below 1 where `ours` is faster."""
    return ours.median / theirs.median


def ratios(measured: Mapping[str, Measured], ours: str) -> dict[str, float]:
    """Of one contender to each other one, by that one's name."""
    return {name: ratio(measured[ours], peer) for name, peer in measured.items() if name != ours}


def noisy(measured: Mapping[str, Measured]) -> list[str]:
    """The contenders whose evaluations differ too much for a conclusion."""
    return [name for name, contender in measured.items() if contender.spread > NOISY]


def record(benchmark: str, measured: Mapping[str, Measured], **context: Any) -> dict[str, Any]:
    """One run as JSON holds it: name, time, context, and of each contender every number."""
    return {
        "benchmark": benchmark,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        **context,
        "contenders": {
            name: {**asdict(contender), "median": contender.median} for name, contender in measured.items()
        },
    }


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Add one line of JSON, floats with six significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(_rounded(entry)) + "\n")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, the others to the right. The first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return value
