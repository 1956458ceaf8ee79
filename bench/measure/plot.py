"""Bar charts as SVG files, written without a plotting package."""

from collections.abc import Mapping
from html import escape
from pathlib import Path

BAR, GAP, LEFT, WIDTH, RIGHT = 22, 10, 210, 440, 130
OURS, THEIRS = "#2b6cb0", "#a0aec0"


def bars(path: Path, title: str, seconds: Mapping[str, float], ours: str) -> None:
    """One horizontal bar for each contender, the fastest first; names that begin with `ours` are highlighted.

    Next to each bar its seconds, and the ratio to the slowest.
    """
    ordered = sorted(seconds.items(), key=lambda item: item[1])
    most = max(seconds.values())
    height = 50 + len(ordered) * (BAR + GAP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" height="{height}"'
        ' font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="12" y="24" font-size="15">{escape(title)}</text>',
    ]
    for number, (name, value) in enumerate(ordered):
        top = 40 + number * (BAR + GAP)
        length = WIDTH * value / most
        colour = OURS if name.startswith(ours) else THEIRS
        lines += [
            f'<text x="{LEFT - 8}" y="{top + 16}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{top}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>',
            f'<text x="{LEFT + length + 6:.1f}" y="{top + 16}">{value:.3g} s ({value / most:.2f})</text>',
        ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, "</svg>"]) + "\n")
