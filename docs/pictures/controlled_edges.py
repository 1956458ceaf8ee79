"""How closely a ControlNet for edges is followed: on pictures that no training has seen.

    python docs/pictures/controlled_edges.py CORPUS CONTROLNET [--count 16] [--model MODEL]

Each held-out picture is drawn from its caption, without the ControlNet and along the picture's edges. "shown"
is the share of those edges that lie within 2 px of an edge of the drawing, "drawn" the share of the drawing's
edges that lie as near to one that was shown.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

import pochade
from pochade.images.decode import on_white
from pochade.images.preprocessors import canny
from pochade.request_options import Control
from pochade.training.corpus import Corpus, load
from pochade.training.data.selection import STYLES
from pochade.training.finetune import words

REACH = 2
STEPS, CFG_SCALE = 12, 5.0


def main() -> None:
    options = _options()
    corpus, pipeline = load(options.corpus), pochade.load(options.model)
    shares: dict[float, list[tuple[float, float]]] = {0.0: [], 1.0: []}
    for seed, index in enumerate(_held_out(corpus, options.count)):
        picture = on_white(Image.fromarray(corpus.picture(index)))
        hint, caption = edges(picture), words(corpus.entries[index])
        for strength, found in shares.items():
            control = Control(
                image=picture, model=options.controlnet, preprocessor="canny", strength=strength
            )
            drawn = pipeline.txt2img(
                caption, seed=seed, steps=STEPS, cfg_scale=CFG_SCALE, controls=(control,)
            ).images[0]
            own = edges(drawn)
            found.append((within_reach(hint, own), within_reach(own, hint)))
    print(f"{options.count} pictures  shown  drawn")
    for strength, found in shares.items():
        shown, drawn_share = np.mean(found, axis=0)
        print(f"strength {strength:g}   {shown:6.1%} {drawn_share:6.1%}")


def edges(image: Image.Image) -> NDArray[np.bool_]:
    """(H, W), true on an edge."""
    return np.asarray(canny(image).convert("L")) > 0


def within_reach(some: NDArray[np.bool_], others: NDArray[np.bool_]) -> float:
    """The share of some edges that lie near others."""
    wide = Image.fromarray(others).convert("L").filter(ImageFilter.MaxFilter(2 * REACH + 1))
    return float((some & (np.asarray(wide) > 0)).sum() / max(1, some.sum()))


def _held_out(corpus: Corpus, count: int) -> list[int]:
    """Things of the starter's styles, without people and signs."""
    chosen = [
        index
        for index, entry in enumerate(corpus.entries)
        if entry.split == "held-out"
        and entry.style in STYLES
        and entry.group not in ("people-body", "symbols")
    ]
    return [int(index) for index in np.random.default_rng(0).choice(chosen, count, replace=False)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("controlnet", type=Path)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--model", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
