"""How much each of several prompts counts, and where in the picture."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pochade.prompts.composition import PromptPart

Floats = NDArray[np.float32]
Weight = float | Floats
"""Of a prompt: everywhere the same, or (h, w), for each latent pixel."""


def weights_of(parts: Sequence[PromptPart], rows: int, columns: int) -> list[Weight]:
    """The weights of prompts that are drawn together, for latents of this size.

    A latent pixel that lies partly in a region counts by its share.
    """
    weights: list[Weight] = []
    for part in parts:
        if part.region is None:
            weights.append(part.weight)
            continue
        left, right, top, bottom = part.region
        inside = np.outer(
            _covered(top * rows, bottom * rows, rows), _covered(left * columns, right * columns, columns)
        )
        weights.append((part.weight * inside).astype(np.float32))
    return weights


def _covered(begin: float, end: float, count: int) -> NDArray[np.float64]:
    """Of `count` pixels in a row, the share of each that lies between two places."""
    places = np.arange(count)
    inside: NDArray[np.float64] = np.minimum(places + 1, end) - np.maximum(places, begin)
    return inside.clip(0, 1)
