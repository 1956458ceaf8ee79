"""The colour that a person would name, measured."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

COLOURS = (
    "red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "brown", "black", "gray", "white",
)  # fmt: skip

HUES = (
    (14.0, "red"), (35.0, "orange"), (64.0, "yellow"), (162.0, "green"), (188.0, "teal"), (250.0, "blue"),
    (300.0, "purple"), (344.0, "pink"), (360.0, "red"),
)  # fmt: skip
"""Upper end of each name's range of hues, in degrees."""


def dominant_colour(picture: NDArray[np.uint8]) -> tuple[str, float]:
    """The name of the commonest colour among the opaque pixels, and its share of them (0..1).

    picture: (H, W, 4), straight alpha. A picture without opaque pixels is ("white", 0.0).
    """
    opaque = picture[picture[..., 3] >= 128][:, :3]
    if not len(opaque):
        return "white", 0.0
    counts = np.bincount(colour_indices(opaque), minlength=len(COLOURS))
    winner = int(counts.argmax())
    return COLOURS[winner], float(counts[winner] / len(opaque))


def colour_indices(rgb: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The index into COLOURS of each colour: (N, 3) -> (N,).

    By hue where there is enough of it; dark orange is brown, pale red is pink, the rest is a gray.
    """
    hue, saturation, value = _hsv(rgb)
    ends = np.array([end for end, _ in HUES])
    names = np.array([COLOURS.index(name) for _, name in HUES])
    index = names[np.searchsorted(ends, hue, side="right").clip(max=len(ends) - 1)]

    warm = (hue >= 8) & (hue < 46)
    rosy = (hue < 14) | (hue >= 330)
    chroma = saturation * value
    rules: list[tuple[Any, str]] = [  # later rules win
        (rosy & (saturation < 0.55) & (value > 0.8), "pink"),
        (warm & ((value < 0.72) | ((value < 0.86) & (saturation < 0.55))), "brown"),
        ((hue < 14) & (value < 0.5) & (saturation < 0.75), "brown"),
        ((saturation < 0.16) | (chroma < 0.08), "gray"),
        ((saturation < 0.12) & (value > 0.84), "white"),
        ((value < 0.2) | ((value < 0.32) & (saturation < 0.35)), "black"),
    ]
    for where, name in rules:
        index[where] = COLOURS.index(name)
    return index


def _hsv(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Hue in degrees, saturation and value in 0..1 (Smith 1978)."""
    red, green, blue = (rgb[:, channel].astype(np.float32) / 255 for channel in range(3))
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    safe = np.where(spread == 0, 1, spread)
    hue = np.select(
        [value == red, value == green],
        [(green - blue) / safe % 6, (blue - red) / safe + 2],
        default=(red - green) / safe + 4,
    )
    return (hue * 60).astype(np.float32), spread / np.where(value == 0, 1, value), value
