"""Draw one prompt with nine seeds on one sheet, to choose a seed.

    python examples/drafts.py "a fox, 3d style"

It writes drafts.png into the current folder and prints the seeds, row by row.
"""

import sys

from PIL import Image

import pochade

COLUMNS = 3

prompt = sys.argv[1] if len(sys.argv) > 1 else "a fox, 3d style"
result = pochade.load().txt2img(prompt, seed=100, batch_size=COLUMNS * COLUMNS, steps=12, cfg_scale=5.0)

width, height = result.images[0].size
sheet = Image.new("RGB", (COLUMNS * width, COLUMNS * height))
for number, image in enumerate(result.images):
    sheet.paste(image, (number % COLUMNS * width, number // COLUMNS * height))
sheet.save("drafts.png")
for row in range(COLUMNS):
    print(*result.seeds[row * COLUMNS : (row + 1) * COLUMNS])
