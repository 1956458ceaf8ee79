"""Detects copies of training pictures: finds the nearest one and decides whether it is a copy."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from pochade.evaluation import foreground
from pochade.evaluation.scorer_model import Embeddings, Scorer

Floats = NDArray[np.float32]

SIDE = 32
"""Side, px, to which each object is cut out and scaled, so that shifted and scaled copies are found too."""


@dataclass(frozen=True)
class ComparablePictures:
    """Pictures in both representations that are compared: embeddings (N, D + S) of unit length, pixels (N,
    SIDE * SIDE * 3)."""

    embeddings: Floats
    pixels: Floats


@dataclass(frozen=True)
class CopyThresholds:
    """Thresholds from which two pictures count as copies: a minimum cosine similarity of the scorer's
    embeddings, and a maximum distance in pixels (root mean square, of 1).

    found: share of true copies within the thresholds. mistaken: share of other drawings of the same concept.
    """

    similarity: float
    distance: float
    found: float
    mistaken: float


def comparable(scorer: Scorer, images: Sequence[Image.Image]) -> ComparablePictures:
    """Compute both representations."""
    return ComparablePictures(
        joint_embeddings(scorer.embed_images(images)), np.stack([pixels(image) for image in images])
    )


def joint_embeddings(embeddings: Embeddings) -> Floats:
    """Concatenate both embeddings with equal weights: (N, D + S), unit vectors."""
    both: Floats = np.concatenate([embeddings.concepts, embeddings.styles], axis=1) * np.float32(0.5**0.5)
    return both


def pixels(image: Image.Image) -> Floats:
    """The object alone, scaled to one size: (SIDE * SIDE * 3,) in 0..1."""
    picture = np.asarray(image.convert("RGB"))
    part = foreground.cut_out(picture, foreground.foreground(picture), margin=0.0)
    small = Image.fromarray(picture if part is None else part).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32).reshape(-1) / np.float32(255)


def mirrored(flat: Floats) -> Floats:
    """(N, SIDE * SIDE * 3) -> the same, of the mirror images."""
    return flat.reshape(-1, SIDE, SIDE, 3)[:, :, ::-1].reshape(len(flat), -1)


def distances(one: Floats, other: Floats) -> Floats:
    """Root mean square differences of all pairs, (N, P), (M, P) -> (N, M); mirrored ones too."""
    return np.minimum(_distances(one, other), _distances(mirrored(one), other))


def _distances(one: Floats, other: Floats) -> Floats:
    squares = np.square(one).sum(axis=1)[:, None] + np.square(other).sum(axis=1) - 2 * one @ other.T
    root: Floats = np.sqrt(squares.clip(min=0) / one.shape[1])
    return root


def nearest(drawn: ComparablePictures, known: ComparablePictures) -> tuple[NDArray[np.intp], Floats, Floats]:
    """For each picture the nearest known one in pixels: its index, similarity (cosine) and distance."""
    apart = distances(drawn.pixels, known.pixels)
    index = apart.argmin(axis=1)
    rows = np.arange(len(index))
    return index, (drawn.embeddings * known.embeddings[index]).sum(axis=1), apart[rows, index]


def copy_thresholds(
    copies: tuple[ComparablePictures, ComparablePictures],
    others: tuple[ComparablePictures, ComparablePictures],
) -> CopyThresholds:
    """The thresholds that best separate true copies from other drawings of the same concept.

    Each is at the equal error rate of its measure alone.
    """

    def measured(pair: tuple[ComparablePictures, ComparablePictures]) -> tuple[Floats, Floats]:
        one, other = pair
        apart = np.array(
            [distances(a[None], b[None])[0, 0] for a, b in zip(one.pixels, other.pixels, strict=True)]
        )
        return (one.embeddings * other.embeddings).sum(axis=1), apart

    (near_copies, far_copies), (near_others, far_others) = measured(copies), measured(others)
    similarity = -equal_error(-near_copies, -near_others)
    distance = equal_error(far_copies, far_others)
    return CopyThresholds(
        similarity=similarity,
        distance=distance,
        found=float(((near_copies >= similarity) & (far_copies <= distance)).mean()),
        mistaken=float(((near_others >= similarity) & (far_others <= distance)).mean()),
    )


def equal_error(low: Floats, high: Floats) -> float:
    """The threshold with an equal error rate: as large a share of `high` below it as of `low` above it."""
    candidates = np.sort(np.concatenate([low, high]))
    missed = 1 - np.searchsorted(np.sort(low), candidates, side="right") / len(low)
    mistaken = np.searchsorted(np.sort(high), candidates, side="right") / len(high)
    best = int(np.abs(missed - mistaken).argmin())
    return float(candidates[best])


def make_copy(image: Image.Image, rng: Generator) -> Image.Image:
    """A copy that should be detected: smaller, shifted, softened and compressed."""
    side = image.width
    size = round(side * rng.uniform(0.7, 0.95))
    soft = image.resize((side // 2, side // 2), Image.Resampling.BOX).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    sheet = Image.new("RGB", (side, side), "white")
    sheet.paste(soft, (int(rng.integers(side - size + 1)), int(rng.integers(side - size + 1))))
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=60)
    with Image.open(file) as decoded:
        return decoded.convert("RGB")
