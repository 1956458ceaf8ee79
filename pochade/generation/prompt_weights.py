"""The weights of composed prompts, as maps where they have regions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pochade.prompts.composition import PromptPart

Floats = NDArray[np.float32]
Weight = float | Floats
"""The weight of a prompt: a number, or (h, w) for each latent pixel."""


def weights_of(parts: Sequence[PromptPart], rows: int, columns: int) -> list[Weight]:
    """Return the weights of composed prompts for latents of this size.

    A latent pixel that lies partly in a region is weighted by its covered share.
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
    """The covered share of each of `count` pixels between two positions."""
    places = np.arange(count)
    inside: NDArray[np.float64] = np.minimum(places + 1, end) - np.maximum(places, begin)
    return inside.clip(0, 1)
