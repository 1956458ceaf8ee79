"""Distances between sets of embeddings, and their spread."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

AXES = 32
"""Directions in which sets are compared: with 200 pictures, more would measure the sample, not the set."""


def main_axes(points: Floats, count: int = AXES) -> Floats:
    """The directions in which the points vary most: (N, D) -> (D, count), orthonormal."""
    _, vectors = np.linalg.eigh(np.cov(points.astype(np.float64), rowvar=False))
    axes: Floats = vectors[:, ::-1][:, :count]
    return axes


def frechet(one: Floats, other: Floats) -> float:
    """The squared Frechet distance of the two Gaussians with the sets' means and covariances.

    one, other: (N, D), N > D. |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), Dowson and Landau 1982; the
    measure that Heusel et al. 2017 made with another network. It grows as sets get smaller, so that figures
    compare only between sets of one size.
    """
    mean = np.square(one.mean(axis=0) - other.mean(axis=0)).sum()
    c1, c2 = (np.cov(points.astype(np.float64), rowvar=False) for points in (one, other))
    # C1 C2 is similar to R C2 R with R = C1^(1/2), which is symmetric: its eigenvalues are real.
    values, vectors = np.linalg.eigh(c1)
    root = vectors * np.sqrt(values.clip(min=0)) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ c2 @ root).clip(min=0)).sum()
    return float(mean + np.trace(c1) + np.trace(c2) - 2 * shared)


def mean_distance(points: Floats) -> float:
    """The mean of 1 - cosine over all pairs of unit vectors (N, D), N at least 2."""
    count = len(points)
    return float(1 - (np.square(points.sum(axis=0)).sum() - count) / (count * (count - 1)))
