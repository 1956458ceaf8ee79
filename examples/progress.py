"""Show progress while drawing, with a preview after every fifth step.

    python examples/progress.py "a sunflower"

It writes preview-05.png, preview-10.png and so on, and finally progress.png, into the current folder.
"""

import sys

import pochade

prompt = sys.argv[1] if len(sys.argv) > 1 else "a sunflower, flat style"
request = pochade.Request(prompt=prompt, seed=3, steps=20, cfg_scale=5.0)

for progress in pochade.load().stream(request):  # leaving the loop cancels the drawing
    print(f"step {progress.step} of {progress.steps}")
    if progress.result is not None:  # with the last step only
        progress.result.images[0].save("progress.png")
    elif progress.step % 5 == 0:
        progress.preview()[0].save(f"preview-{progress.step:02}.png")  # small: one pixel per latent pixel
