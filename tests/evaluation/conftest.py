"""A training set of plain shapes."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pochade.training.corpus import Corpus, CorpusEntry
from pochade.training.corpus.store import split_of

SIZE = 96
SHAPES = ("disc", "box", "bar", "ring", "wedge", "cross")
COLOURS = {"flat style": (200, 40, 40), "noto style": (40, 80, 200)}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Six shapes in two styles, in eight sizes each, and every concept twice: a few of them are held out."""
    folder = tmp_path_factory.mktemp("corpus")
    entries, pictures = [], []
    for style, colour in COLOURS.items():
        for number in range(48):
            shape = SHAPES[number % len(SHAPES)]
            pictures.append(drawn(shape, (*colour, 255), SIZE - number // len(SHAPES)))
            entries.append(entry(shape, style, code=f"{number:x}", row=len(entries)))
    (folder / "all.npy").write_bytes(np.stack(pictures).tobytes())
    return Corpus(folder, SIZE, tuple(entries), {})


def entry(label: str, style: str, *, code: str, row: int) -> CorpusEntry:
    source = style.removesuffix(" style")
    size = SIZE * SIZE * 4
    return CorpusEntry(
        file="all.npy", row=row, offset=row * size, length=size, width=SIZE, height=SIZE, label=label,
        tags=("shape",), style=style, source=source, licence="MIT", code=code, emoji="?", group="objects",
        subgroup="tool", mirrorable=label != "wedge", colour="red", colour_share=1.0,
        split=split_of(code, source),
    )  # fmt: skip


def drawn(shape: str, colour: tuple[int, int, int, int], size: int = SIZE) -> np.ndarray:
    """Draw a shape of width `size` in the middle of a transparent picture: (SIZE, SIZE, 4)."""
    image = Image.new("RGBA", (SIZE, SIZE))
    pen = ImageDraw.Draw(image)
    low, high = (SIZE - size) // 2, (SIZE + size) // 2 - 1
    third = size // 3
    if shape == "disc":
        pen.ellipse((low, low, high, high), fill=colour)
    elif shape == "box":
        pen.rectangle((low, low, high, high), fill=colour)
    elif shape == "bar":
        pen.rectangle((low, low + third, high, high - third), fill=colour)
    elif shape == "ring":
        pen.ellipse((low, low, high, high), outline=colour, width=size // 5)
    elif shape == "wedge":
        pen.polygon([(low, low), (low, high), (high, high)], fill=colour)
    else:
        pen.rectangle((low, low + third, high, high - third), fill=colour)
        pen.rectangle((low + third, low, high - third, high), fill=colour)
    return np.asarray(image)
