"""Aspect ratio bucketing: sizes of about equal pixel count, and batches of one size each.

Podell et al. 2023 (SDXL), section 2.3 and appendix I: every picture belongs to the bucket with the nearest
aspect ratio, and a batch is taken from one bucket.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from pochade.errors import InvalidRequest

TOO_SMALL = -1
"""The bucket index of a picture that would have to be enlarged too much for any bucket."""

HALF_A_PIXEL = 0.5


@dataclass(frozen=True, order=True)
class Bucket:
    """A training size, px."""

    width: int
    height: int

    @property
    def aspect(self) -> float:
        return self.width / self.height


@dataclass(frozen=True)
class Crop:
    """The upper left corner of the crop from the resized picture, px.

    SDXL is conditioned on top and left (section 2.2).
    """

    left: int
    top: int


def buckets(budget: int, multiple: int, *, widest: float = 4.0) -> tuple[Bucket, ...]:
    """Return the training sizes, from the tallest to the widest, each in both orientations.

    Sides are multiples of `multiple`, aspect ratios go from 1 / widest to widest, and there are at most
    `budget` pixels: for every side the longest other one. The largest square is always included.

    Raises InvalidRequest if `budget` is too small for any size, or if `widest` excludes even the square.
    """
    if multiple < 1 or widest < 1:
        raise InvalidRequest(f"multiple {multiple} and widest aspect {widest:g} must both be 1 or more")
    if budget < multiple**2:
        raise InvalidRequest(
            f"a budget of {budget} pixels is less than {multiple} x {multiple}; raise it or lower the"
            " multiple"
        )
    square = math.isqrt(budget) // multiple * multiple
    found = {Bucket(square, square)}
    for side in range(multiple, budget // multiple + 1, multiple):
        other = budget // side // multiple * multiple
        if max(side, other) <= widest * min(side, other):
            found |= {Bucket(side, other), Bucket(other, side)}
    return ordered(found)


def ordered(found: Iterable[Bucket]) -> tuple[Bucket, ...]:
    """Sort from the tallest to the widest."""
    return tuple(sorted(found, key=lambda bucket: (bucket.aspect, bucket.width)))


def assign(sizes: ArrayLike, choices: tuple[Bucket, ...], *, enlargement: float = 1.0) -> NDArray[np.int64]:
    """Return the index of every picture's bucket: (N, 2) widths and heights in pixels -> (N,).

    It is the one with the nearest aspect ratio of those that the picture covers if enlarged at most
    `enlargement` times; TOO_SMALL if there is none. Of two equally near ones the larger is chosen.

    Raises InvalidRequest for a picture without pixels, or if there are no buckets.
    """
    pictures = np.asarray(sizes, np.float64).reshape(-1, 2)
    if not choices:
        raise InvalidRequest("there are no buckets; use a larger budget")
    if (pictures < 1).any():
        number = int(np.flatnonzero((pictures < 1).any(axis=1))[0])
        width, height = pictures[number]
        raise InvalidRequest(
            f"picture {number} has the size {width:g} x {height:g}; each side must be at least 1"
        )
    sides = np.array([(bucket.width, bucket.height) for bucket in choices], np.float64)
    largest_first = np.argsort(-sides.prod(axis=1), kind="stable")
    sides = sides[largest_first]
    needed = (sides / pictures[:, None]).max(axis=2)  # (N, buckets)
    apart = np.abs(np.log(sides[:, 0] / sides[:, 1]) - np.log(pictures[:, 0] / pictures[:, 1])[:, None])
    # Rounded, so that aspect ratios that differ only by rounding errors are equal.
    apart = np.where(needed <= enlargement, apart.round(9), np.inf)
    nearest = apart.argmin(axis=1)
    fits = np.isfinite(apart[np.arange(len(pictures)), nearest])
    return np.where(fits, largest_first[nearest], TOO_SMALL).astype(np.int64)


def draw(assigned: NDArray[np.int64], batch: int, rng: Generator) -> tuple[int, NDArray[np.int64]]:
    """Draw a bucket and `batch` pictures of it; return its index and theirs (batch,).

    Every picture in a bucket has the same probability: a bucket is drawn in proportion to its number of
    pictures. Pictures repeat only if the bucket has fewer than `batch`, after all have been drawn.

    Raises InvalidRequest if no picture has a bucket.
    """
    drawable = np.flatnonzero(assigned != TOO_SMALL)
    if not len(drawable):
        raise InvalidRequest(f"none of {len(assigned)} pictures fits a bucket; use smaller buckets")
    bucket = int(assigned[rng.choice(drawable)])
    members = np.flatnonzero(assigned == bucket)
    rounds = math.ceil(batch / len(members))
    return bucket, np.concatenate([rng.permutation(members) for _ in range(rounds)])[:batch]


def fit(picture: Image.Image, bucket: Bucket, rng: Generator | None = None) -> tuple[Image.Image, Crop]:
    """Resize a picture so that it just covers its bucket, and crop it.

    The crop is centred, or uniformly random with `rng`.
    """
    scale = max(bucket.width / picture.width, bucket.height / picture.height)
    width = max(bucket.width, int(picture.width * scale + HALF_A_PIXEL))
    height = max(bucket.height, int(picture.height * scale + HALF_A_PIXEL))
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    margin = (width - bucket.width, height - bucket.height)
    left, top = (
        (side // 2 for side in margin) if rng is None else (int(rng.integers(side + 1)) for side in margin)
    )
    return picture.crop((left, top, left + bucket.width, top + bucket.height)), Crop(left, top)
