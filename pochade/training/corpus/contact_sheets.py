"""Contact sheets of pictures, on a plain background."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pochade.training.corpus.store import Corpus

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
TILE = 128
LINE = 16
"""Height of a line of text above a row of pictures, px."""


def on_background(picture: NDArray[np.uint8], colour: Colour = WHITE) -> NDArray[np.uint8]:
    """Composite straight-alpha RGBA over a plain colour: (..., H, W, 4) -> (..., H, W, 3). RGB is unchanged.

    Porter and Duff 1984, "over" with an opaque background.
    """
    if picture.shape[-1] == 3:
        return picture
    alpha = picture[..., 3:].astype(np.float32) / 255
    mixed = picture[..., :3] * alpha + np.asarray(colour, np.float32) * (1 - alpha)
    return np.rint(mixed).astype(np.uint8)


def contact_sheet(
    corpus: Corpus, path: str | Path, n: int = 100, *, seed: int = 0, columns: int = 12
) -> None:
    """Write a PNG with `n` random pictures of the set, row by row."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(corpus), size=min(n, len(corpus)), replace=False).tolist()
    rows = [
        _row(corpus, chosen[start : start + columns], columns) for start in range(0, len(chosen), columns)
    ]
    Image.fromarray(np.concatenate(rows)).save(path)


def style_sheet(corpus: Corpus, path: str | Path, *, seed: int = 0, columns: int = 12) -> None:
    """Write a PNG with a row of random pictures for each style, or for each source without a style."""
    rng = np.random.default_rng(seed)
    styles: dict[str, list[int]] = {}
    for index, entry in enumerate(corpus.entries):
        styles.setdefault(entry.style or entry.source, []).append(index)
    rows = []
    for style, indices in styles.items():
        chosen = rng.choice(indices, size=min(columns, len(indices)), replace=False).tolist()
        pictures = _row(corpus, chosen, columns)
        title = Image.new("RGB", (pictures.shape[1], LINE), WHITE)
        ImageDraw.Draw(title).text((2, 2), f"{style} ({len(indices)})".encode("ascii", "replace"), "black")
        rows += [np.asarray(title), pictures]
    Image.fromarray(np.concatenate(rows)).save(path)


def _row(corpus: Corpus, indices: Sequence[int], columns: int) -> NDArray[np.uint8]:
    side = min(corpus.size, TILE)
    row = np.full((side, columns * side, 3), 255, np.uint8)
    for column, index in enumerate(indices):
        row[:, column * side : (column + 1) * side] = _tile(corpus.picture(index), side)
    return row


def _tile(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Fit a picture into the middle of a white square."""
    picture = on_background(picture)
    if picture.shape[:2] == (side, side):
        return picture
    image = Image.fromarray(picture)
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    tile = Image.new("RGB", (side, side), WHITE)
    tile.paste(
        image.resize((width, height), Image.Resampling.BOX), ((side - width) // 2, (side - height) // 2)
    )
    return np.asarray(tile)
