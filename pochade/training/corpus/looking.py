"""Looking at the pictures: on a plain background, and many at once."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pochade.training.corpus.store import Corpus

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)


def on_background(picture: NDArray[np.uint8], colour: Colour = WHITE) -> NDArray[np.uint8]:
    """Lay straight-alpha RGBA on a plain colour: (..., H, W, 4) -> (..., H, W, 3).

    Porter and Duff 1984, "over" with an opaque background.
    """
    alpha = picture[..., 3:].astype(np.float32) / 255
    mixed = picture[..., :3] * alpha + np.asarray(colour, np.float32) * (1 - alpha)
    return np.rint(mixed).astype(np.uint8)


def contact_sheet(
    corpus: Corpus, path: str | Path, n: int = 100, *, seed: int = 0, columns: int = 12
) -> None:
    """Write a PNG with `n` pictures drawn at random from the set, row by row."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(corpus), size=min(n, len(corpus)), replace=False)
    rows = -(-len(chosen) // columns)
    sheet = np.full((rows * corpus.size, columns * corpus.size, 3), 255, np.uint8)
    for place, index in enumerate(chosen):
        top, left = (corpus.size * part for part in divmod(place, columns))
        sheet[top : top + corpus.size, left : left + corpus.size] = on_background(corpus.picture(int(index)))
    Image.fromarray(sheet).save(path)
