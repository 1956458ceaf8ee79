"""Training examples of the diffusion model: cached latents with newly worded captions."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from tqdm import tqdm

from pochade.checkpoints import safetensors
from pochade.configs.networks import AutoencoderConfig
from pochade.training.corpus import Corpus
from pochade.training.data import buckets, scenes
from pochade.training.data.captions import caption
from pochade.training.losses.autoencoder import encode_all
from pochade.training.parameters import Parameters
from pochade.training.precision import mixed_precision

Captioner = Callable[[int, Generator], str]
Draw = Callable[[int], NDArray[np.uint8]]
"""Draws picture n of a set: (H, W, 3)."""

PART = 2048
"""Pictures encoded per cache file: a minute or two on one core."""

Encode = Callable[[str, Draw, int], torch.Tensor]
"""`encode(name, draw, count)`: scaled latents (count, C, h, w) of a whole set; the name is a cache key."""


class Examples(Protocol):
    """Training examples of a diffusion model."""

    def batch(self, count: int, rng: Generator) -> tuple[torch.Tensor, list[str]]:
        """Return scaled latents (count, C, h, w) f32, all of one size, and a true sentence about each."""


@dataclass(frozen=True, kw_only=True)
class LatentSet:
    """Latents of one size with captions.

    latents: (N, C, h, w), f16. caption: returns a sentence about latent n, worded differently each time.
    shares: (N,), the probability of each; sums to 1.
    """

    latents: torch.Tensor
    caption: Captioner
    shares: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.latents)

    def batch(self, count: int, rng: Generator) -> tuple[torch.Tensor, list[str]]:
        """As in `Examples`; all different if possible."""
        chosen = rng.choice(len(self), size=count, replace=count > len(self), p=self.shares)
        return self.latents[chosen].float(), [self.caption(int(number), rng) for number in chosen]


def uniform_latents(latents: torch.Tensor, caption: Captioner) -> LatentSet:
    """Return a set whose latents are drawn with equal probability."""
    return LatentSet(latents=latents, caption=caption, shares=np.full(len(latents), 1 / len(latents)))


def mixture(parts: Sequence[LatentSet], weights: Sequence[float]) -> LatentSet:
    """Return a mixture of sets; `weights` are their shares of the drawn latents."""
    starts = np.cumsum([0, *map(len, parts)])
    total = sum(weights)

    def describe(number: int, rng: Generator) -> str:
        which = int(np.searchsorted(starts, number, side="right")) - 1
        return parts[which].caption(number - int(starts[which]), rng)

    return LatentSet(
        latents=torch.cat([part.latents for part in parts]),
        caption=describe,
        shares=np.concatenate(
            [part.shares * weight / total for part, weight in zip(parts, weights, strict=True)]
        ),
    )


@dataclass(frozen=True, kw_only=True)
class BucketedSet:
    """Latents of several sizes: a tensor (N_b, C, h_b, w_b), f16, and N_b captions for each bucket."""

    latents: tuple[torch.Tensor, ...]
    captions: tuple[tuple[str, ...], ...]

    def batch(self, count: int, rng: Generator) -> tuple[torch.Tensor, list[str]]:
        """As in `Examples`, all from one bucket, which is drawn in proportion to its number of pictures."""
        bucket, rows = self.rows(count, rng)
        return self.latents[bucket][rows].float(), [self.captions[bucket][int(row)] for row in rows]

    def rows(self, count: int, rng: Generator) -> tuple[int, NDArray[np.int64]]:
        """Return the bucket and the rows in it of a batch."""
        assigned = np.repeat(np.arange(len(self.latents)), [len(each) for each in self.latents])
        bucket, members = buckets.draw(assigned, count, rng)
        return bucket, members - int(np.flatnonzero(assigned == bucket)[0])


def encoder(config: AutoencoderConfig, parameters: Parameters, *, device: str, batch: int = 32) -> Encode:
    """Return a function that encodes with an autoencoder, to f16. Pictures are drawn on demand."""

    def encode(name: str, draw: Draw, count: int) -> torch.Tensor:
        parts = []
        for start in tqdm(range(0, count, batch), desc=f"encoding: {name}", unit="batch", disable=None):
            pictures = np.stack([draw(number) for number in range(start, min(start + batch, count))])
            # Rounding to bf16 changes a latent by 0.4 % of its deviation and halves the time.
            with mixed_precision(device):
                parts.append(encode_all(config, parameters, pictures, device=device).half())
        return torch.cat(parts)

    return encode


def cached_encoder(encode: Encode, folder: Path, key: str, part: int = PART) -> Encode:
    """Cache an encoder's latents in `folder`, `part` pictures per file, so that an interrupted run resumes.

    key: identifies everything that determines the latents, besides the name and size of a set.
    """

    def lookup(name: str, draw: Draw, count: int) -> torch.Tensor:
        parts = []
        for start in range(0, count, part):
            digest = hashlib.sha256(f"{key} {name} {count} {start} {part}".encode()).hexdigest()[:16]
            path = folder / f"latents-{name}-{digest}.safetensors"
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                latents = encode(name, partial(_further, draw, start), min(part, count - start))
                safetensors.write(path, {"latents": latents.numpy()})
            parts.append(torch.from_numpy(np.asarray(safetensors.read(path)["latents"])))
        return torch.cat(parts)

    return lookup


def _further(draw: Draw, start: int, number: int) -> NDArray[np.uint8]:
    return draw(start + number)


def single_pictures(
    corpus: Corpus, chosen: Sequence[int], framed: Callable[[int], NDArray[np.uint8]], encode: Encode
) -> LatentSet:
    """Return every chosen picture on white, original and mirrored; twice the original if not mirrorable."""

    def draw(number: int) -> NDArray[np.uint8]:
        index = chosen[number // 2]
        flip = number % 2 and corpus.entries[index].mirrorable
        return framed(index)[:, ::-1] if flip else framed(index)

    def describe(number: int, rng: Generator) -> str:
        return caption(corpus.entries[chosen[number // 2]], rng)

    return uniform_latents(encode("single", draw, 2 * len(chosen)), describe)


def composed_pictures(
    corpus: Corpus, groups: Sequence[Sequence[int]], count: int, side: int, encode: Encode, *, seed: int
) -> LatentSet:
    """Return `count` scenes; groups as in `scenes.plan`. Scene n depends only on (seed, n)."""
    rngs = [np.random.default_rng((seed, number)) for number in range(count)]
    planned = [scenes.plan(corpus, groups, rng) for rng in rngs]

    def draw(number: int) -> NDArray[np.uint8]:
        return scenes.draw(corpus, planned[number], rngs[number], side)

    def describe(number: int, rng: Generator) -> str:
        return scenes.describe(corpus, planned[number], rng)

    plans = hashlib.sha256(repr(planned).encode()).hexdigest()[:8]  # part of the cache key
    return uniform_latents(encode(f"composed-{plans}", draw, count), describe)
