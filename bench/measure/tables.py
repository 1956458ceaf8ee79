"""Measurements as text tables."""

from collections.abc import Iterable, Mapping, Sequence
from string import ascii_uppercase

from measure.record import Measured, disturbed, ratio


def table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, the others to the right. The first row is the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]))
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def times(measured: Mapping[str, Measured]) -> str:
    """Medians, and the ratio of each to each other one: column /B is relative to contender B."""
    letters = dict(zip(measured, ascii_uppercase, strict=False))
    heading = ["", "median s", "min-max", "counted", *(f"/{letter}" for letter in letters.values())]
    rows = [[*heading, "processor s", "error", "threads"]]
    for name, this in measured.items():
        rows.append(
            [
                f"{letters[name]} {name}",
                f"{this.median:.3f}",
                f"{min(this.counted):.3f}-{max(this.counted):.3f}",
                f"{len(this.counted)} of {len(this.seconds)}",
                *(f"{ratio(this, peer):.3f}" for peer in measured.values()),
                f"{min(this.processor_s):.2f}",
                "-" if this.error is None else f"{this.error:.1e}",
                str(this.threads),
            ]
        )
    return table(rows)


def starts(measured: Mapping[str, Measured], phases: Iterable[str]) -> str:
    """Seconds and memory of loading and compiling; in parentheses without cached graphs."""
    phases = tuple(phases)
    rows = [["", *phases, "peak memory"]]
    for name, this in measured.items():
        first = {} if this.first_phases is None else this.first_phases
        cells = [_pair(this.phases.get(phase), first.get(phase)) for phase in phases]
        first_peak = None if this.first_peak_bytes is None else this.first_peak_bytes / 1e9
        rows.append([name, *cells, _pair(this.peak_bytes / 1e9, first_peak) + " GB"])
    return table(rows)


def verdicts(measured: Mapping[str, Measured], ours: str, targets: Mapping[str, float]) -> list[str]:
    """One line for each target: met, missed, or undecided because other work disturbed too much."""
    lines = []
    noisy = disturbed(measured)
    for peer, target in targets.items():
        if ours in measured and peer in measured:
            found = ratio(measured[ours], measured[peer])
            verdict = "met" if found <= target else "MISSED"
            if ours in noisy or peer in noisy:
                verdict = "not decided, other work disturbed too many evaluations; measure again"
            lines.append(f"{ours} / {peer}: {found:.3f}, target at most {target}: {verdict}")
    return lines


def _pair(value: float | None, first: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if first is None else f"{value:.2f} ({first:.2f})"
