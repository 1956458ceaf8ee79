"""Contact sheets and labelled tables of pictures."""

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

COLUMNS = 8
SIDE = 128
"""Each picture is shown at this size, px."""

LETTERS, LINES, LINE_HEIGHT, LETTER_WIDTH = 21, 3, 12, 6
"""The height of the caption below a picture, in PIL's default font."""

GAP = 8
"""Pixels between pictures in a table."""


def sheet(images: Sequence[Image.Image], prompts: Sequence[str]) -> Image.Image:
    """Return a contact sheet with eight pictures per row and their prompts."""
    font = ImageFont.load_default_imagefont()
    width, height = SIDE + 8, SIDE + LINES * LINE_HEIGHT + 8
    rows = -(-len(images) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * width, rows * height), "white")
    pen = ImageDraw.Draw(page)
    for number, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
        left, top = number % COLUMNS * width + 4, number // COLUMNS * height + 4
        small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        page.paste(small, (left, top))
        for line, words in enumerate(textwrap.wrap(prompt, LETTERS)[:LINES]):
            place = left, top + SIDE + 2 + line * LINE_HEIGHT
            pen.text(place, _latin(words), fill="black", font=font)
    return page


def table(images: Sequence[Image.Image], columns: Sequence[str], rows: Sequence[str] = ("",)) -> Image.Image:
    """Return a table of pictures at their own sizes, with labels of columns and rows."""
    font = ImageFont.load_default_imagefont()
    width, height = (max(image.size[axis] for image in images) + GAP for axis in (0, 1))
    margin = max((len(_latin(name)) for name in rows), default=0) * LETTER_WIDTH + GAP
    letters = max(1, width // LETTER_WIDTH)
    heads = [textwrap.wrap(_latin(name), letters)[:LINES] for name in columns]
    top = max(map(len, heads), default=0) * LINE_HEIGHT + GAP
    page = Image.new("RGB", (margin + len(columns) * width, top + len(rows) * height), "white")
    pen = ImageDraw.Draw(page)
    for column, lines in enumerate(heads):
        for line, words in enumerate(lines):
            pen.text((margin + column * width, GAP // 2 + line * LINE_HEIGHT), words, fill="black", font=font)
    for row, name in enumerate(rows):
        middle = top + row * height + (height - LINE_HEIGHT) // 2
        pen.text((GAP // 2, middle), _latin(name), fill="black", font=font)
    for number, image in enumerate(images):
        row, column = divmod(number, len(columns))
        page.paste(image.convert("RGB"), (margin + column * width, top + row * height))
    return page


def stacked(pages: Sequence[Image.Image]) -> Image.Image:
    """Stack pages vertically."""
    width, height = max(page.width for page in pages), sum(page.height for page in pages)
    whole = Image.new("RGB", (width, height), "white")
    top = 0
    for page in pages:
        whole.paste(page, (0, top))
        top += page.height
    return whole


def _latin(text: str) -> str:
    """The text without characters that the font lacks."""
    return text.encode("latin-1", "replace").decode("latin-1")
