"""A sheet of pictures with their prompts below them, for a person to look at."""

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

COLUMNS = 8
SIDE = 128
"""Each picture is shown at this size, px."""

LETTERS, LINES, LINE_HEIGHT = 21, 3, 12
"""Of the text below a picture, in PIL's own small font."""


def sheet(images: Sequence[Image.Image], prompts: Sequence[str]) -> Image.Image:
    """Eight pictures in a row, white between them."""
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
            plain = words.encode("latin-1", "replace").decode("latin-1")  # all that the font has
            pen.text((left, top + SIDE + 2 + line * LINE_HEIGHT), plain, fill="black", font=font)
    return page
