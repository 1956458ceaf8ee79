"""Redraw a whole picture (image to image), and then only a masked area (inpainting).

    python examples/inpainting.py               # draws a picture first
    python examples/inpainting.py photo.png

It writes img2img.png and inpainting.png into the current folder.
"""

import sys

from PIL import Image, ImageDraw

import pochade

pipeline = pochade.load()
if len(sys.argv) > 1:
    picture = Image.open(sys.argv[1]).convert("RGB")
else:
    picture = pipeline.txt2img("a red apple, 3d style", seed=7, cfg_scale=5.0).images[0]

# 0.6 of the steps are done: the composition stays, the colours change.
changed = pipeline.img2img("a blue apple, 3d style", image=picture, denoising_strength=0.6, seed=1)
changed.images[0].save("img2img.png")

# Only white areas of the mask are redrawn: here the right half.
mask = Image.new("L", picture.size, "black")
ImageDraw.Draw(mask).rectangle((picture.width // 2, 0, picture.width, picture.height), fill="white")
half = pipeline.inpaint("a green apple, 3d style", image=picture, mask=mask, denoising_strength=0.9, seed=2)
half.images[0].save("inpainting.png")
