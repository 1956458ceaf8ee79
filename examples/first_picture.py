"""Draw one picture with the starter, the model that Pochade includes.

    python examples/first_picture.py "a red apple"

It writes first_picture.png into the current folder. The file contains the parameters text, from which the
picture can be drawn again: `pochade draw --like first_picture.png`.
"""

import sys

from PIL.PngImagePlugin import PngInfo

import pochade

prompt = sys.argv[1] if len(sys.argv) > 1 else "a red apple, 3d style"

pipeline = pochade.load()  # or pochade.load("model.safetensors")
result = pipeline.txt2img(prompt, seed=7, steps=20, cfg_scale=5.0)

parameters = PngInfo()
parameters.add_text("parameters", result.infotexts[0])
result.images[0].save("first_picture.png", pnginfo=parameters)
print(result.infotexts[0])
