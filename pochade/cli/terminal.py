"""Shows pictures in a terminal: two pixels per character, in 24-bit colour."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

UPPER_HALF = "\N{UPPER HALF BLOCK}"
RESET = "\x1b[0m"


def render_blocks(image: "Image.Image", columns: int = 32) -> list[str]:
    """Return the picture as lines of text: the upper pixel in the foreground colour, the lower in the
    background."""
    rows = max(1, round(columns * image.height / image.width / 2))
    small = image.convert("RGB").resize((columns, rows * 2))
    return [
        "".join(
            f"\x1b[38;2;{_rgb(small, x, 2 * y)};48;2;{_rgb(small, x, 2 * y + 1)}m{UPPER_HALF}"
            for x in range(columns)
        )
        + RESET
        for y in range(rows)
    ]


def up(lines: int) -> str:
    """Return the escape sequence that moves the cursor up by `lines` lines."""
    return f"\x1b[{lines}F" if lines else ""


def size_text(count: float) -> str:
    """Format a number of bytes: '4.3 GB'."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _rgb(image: "Image.Image", x: int, y: int) -> str:
    pixel = image.getpixel((x, y))
    assert isinstance(pixel, tuple)
    return ";".join(str(int(value)) for value in pixel)


def show_over(bar: Any, image: "Image.Image", shown: int) -> int:
    """Draw the preview over the previous one, above the bar; return its height in lines."""
    lines = render_blocks(image)
    bar.clear()
    print(up(shown) + "\n".join(lines), file=sys.stderr, flush=True)
    bar.refresh()
    return len(lines)
