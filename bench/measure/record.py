"""Measurements, as numbers and as lines of JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

QUIET = 0.1
"""An evaluation counts as undisturbed if everything else took less processor time than this share of it."""
ENOUGH = 5
"""Undisturbed evaluations of each contender that a conclusion takes."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One contender of one run.

    seconds: of each evaluation. processor_s: processor time of each, all threads together. others_s:
    processor time that everything else on the machine took meanwhile, None if the system does not report it.
    error: relative to the reference, Frobenius norm; None if there is none. phases, first_phases: seconds of
    loading and compiling with cached graphs, and without. peak_bytes, first_peak_bytes: peak memory,
    likewise.
    """

    seconds: Sequence[float]
    processor_s: Sequence[float]
    others_s: Sequence[float | None]
    error: float | None
    threads: int
    phases: Mapping[str, float]
    peak_bytes: int
    first_phases: Mapping[str, float] | None = None
    first_peak_bytes: int | None = None

    @property
    def quiet(self) -> Sequence[float]:
        """Seconds of the undisturbed evaluations."""
        pairs = zip(self.seconds, self.others_s, strict=True)
        return [seconds for seconds, others_s in pairs if is_quiet(seconds, others_s)]

    @property
    def counted(self) -> Sequence[float]:
        """The undisturbed evaluations if there are enough, otherwise all of them."""
        return self.quiet if len(self.quiet) >= ENOUGH else self.seconds

    @property
    def median(self) -> float:
        """Median of the evaluations that count."""
        return median(self.counted)


def is_quiet(seconds: float, others_s: float | None) -> bool:
    """Whether an evaluation was undisturbed; assumed if the system cannot tell."""
    return others_s is None or others_s < QUIET * seconds


def ratio(ours: Measured, theirs: Measured) -> float:
    """The ratio of medians: below 1 where `ours` is faster."""
    return ours.median / theirs.median


def ratios(measured: Mapping[str, Measured], ours: str) -> dict[str, float]:
    """Ratios of one contender to each other one, by the name of the other."""
    return {name: ratio(measured[ours], peer) for name, peer in measured.items() if name != ours}


def disturbed(measured: Mapping[str, Measured]) -> list[str]:
    """The contenders without enough undisturbed evaluations."""
    return [name for name, contender in measured.items() if len(contender.quiet) < ENOUGH]


def record(benchmark: str, measured: Mapping[str, Measured], **context: Any) -> dict[str, Any]:
    """One run as JSON: name, time, context, and all numbers of each contender."""
    return {
        "benchmark": benchmark,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        **context,
        "contenders": {
            name: {**asdict(contender), "median": contender.median, "counted": len(contender.counted)}
            for name, contender in measured.items()
        },
    }


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Append one line of JSON, floats with six significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(_rounded(entry)) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return value
