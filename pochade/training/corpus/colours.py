"""Name the dominant colour of a picture."""

import numpy as np
from numpy.typing import NDArray

COLOURS = (
    "red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "brown", "black", "gray", "white",
)  # fmt: skip

HUES = (
    (8.0, "pink"), (36.5, "red"), (70.0, "orange"), (112.0, "yellow"), (170.0, "green"), (215.0, "teal"),
    (285.0, "blue"), (338.0, "purple"), (360.0, "pink"),
)  # fmt: skip
"""The upper limit of each name's range of OKLCh hues, degrees."""

TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def dominant_colour(picture: NDArray[np.uint8]) -> tuple[str, float]:
    """Return the name of the most common colour among the opaque pixels, and its share of them (0..1).

    picture: (H, W, 4), straight alpha. A picture without opaque pixels is ("white", 0.0).
    """
    opaque = picture[picture[..., 3] >= 128][:, :3]
    if not len(opaque):
        return "white", 0.0
    counts = np.bincount(colour_indices(opaque), minlength=len(COLOURS))
    winner = int(counts.argmax())
    return COLOURS[winner], float(counts[winner] / len(opaque))


def colour_indices(rgb: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return the index into COLOURS of each sRGB colour: (N, 3) -> (N,).

    By hue if there is enough chroma; dull dark red to yellow is brown, pale red is pink, the rest is black,
    gray or white. The limits were fitted to pictures whose label contains a colour ("orange heart").
    """
    lightness, chroma, hue = oklch(rgb)
    ends = np.array([end for end, _ in HUES])
    names = np.array([COLOURS.index(name) for _, name in HUES])
    index: NDArray[np.intp] = names[np.searchsorted(ends, hue, side="right").clip(max=len(ends) - 1)]

    warm = (hue > 5) & (hue < 95)
    cream = (hue > 30) & (hue < 95)
    cool = (hue > 270) & (hue < 330)  # many sets shade neutral surfaces slightly violet
    neutral = (chroma < 0.04) | (cool & (chroma < 0.065))
    rules = (  # later rules take precedence
        ((hue < 30) & (lightness > 0.72), "pink"),
        (((hue > 350) | (hue < 8)) & (lightness < 0.62), "red"),
        (warm & (chroma < 0.145) & (lightness < 0.70), "brown"),
        (warm & (chroma < 0.10) & (lightness < 0.84), "brown"),
        (neutral, "gray"),
        ((neutral | (cream & (chroma < 0.08))) & (lightness >= 0.84), "white"),
        (neutral & (lightness < 0.43), "black"),
        (lightness < 0.22, "black"),
    )
    for where, name in rules:
        index[where] = COLOURS.index(name)
    return index


def oklch(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return lightness (0..1), chroma (0..0.4) and hue (degrees) of sRGB colours: (N, 3) -> 3 x (N,).

    OKLab, Ottosson 2020, https://bottosson.github.io/posts/oklab/.
    """
    encoded = rgb.astype(np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    lightness, a, b = TO_OKLAB @ np.cbrt(TO_LMS @ linear.T)
    return lightness, np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360
