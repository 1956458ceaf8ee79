"""Draws docs/pictures/starter.png: prompts that were fixed beforehand, with one seed for all.

python docs/pictures/starter.py
"""

from pathlib import Path

from PIL import Image

import pochade

PROMPTS = """
a red apple | a green apple | sunflower | a fox | a dog | an owl | a frog | a cactus
a tree | a rose | hot pepper | banana | hamburger | birthday cake | a cup of coffee | a slice of pizza
a car | a rocket | a sailboat | a house | a castle | a guitar | a book | light bulb
smiling face | angry face | red heart | a star | full moon | the sun | rainbow | snowman
"""
SEED = 1
SHOWN = 96  # pixels of a picture on the sheet
GAP = 8


def main() -> None:
    pipeline = pochade.load()
    rows = [line.split(" | ") for line in PROMPTS.strip().splitlines()]
    sheet = Image.new("RGB", (len(rows[0]) * (SHOWN + GAP) + GAP, len(rows) * (SHOWN + GAP) + GAP), "white")
    for y, row in enumerate(rows):
        for x, prompt in enumerate(row):
            image = pipeline.txt2img(prompt, seed=SEED).images[0]
            place = (GAP + x * (SHOWN + GAP), GAP + y * (SHOWN + GAP))
            sheet.paste(image.resize((SHOWN, SHOWN), Image.Resampling.BICUBIC), place)
    sheet.save(Path(__file__).with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
