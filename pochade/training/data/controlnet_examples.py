"""Training examples of a ControlNet: latents, each with its hint, the output of a preprocessor.

A hint is computed at the training size, so that its lines are as thin as in inference.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image
from tqdm import tqdm

from pochade.checkpoints import safetensors
from pochade.images.decode import on_white
from pochade.images.preprocessors import preprocessed
from pochade.training.corpus import Corpus
from pochade.training.data import buckets, scenes
from pochade.training.data.buckets import Bucket
from pochade.training.data.examples import PART, BucketedSet
from pochade.training.data.selection import scene_groups

Encode = Callable[[Image.Image], torch.Tensor]
"""Encodes a picture as its scaled latent (C, h, w), f16."""

Shown = Callable[[], tuple[Image.Image, str]]
"""Returns a picture in the size of its bucket and a true sentence about it."""


@dataclass(frozen=True, kw_only=True)
class ControlNetSet:
    """Latents and captions of pictures (`shown`), and for each bucket the hints as PNG files."""

    shown: BucketedSet
    hints: tuple[tuple[bytes, ...], ...]

    def batch(self, count: int, rng: Generator) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        """Draw from one bucket: latents (count, C, h, w), hints (count, 3, H, W) in 0..1, captions."""
        bucket, rows = self.shown.rows(count, rng)
        hints = np.stack([_opened(self.hints[bucket][row]) for row in rows])
        captions = [self.shown.captions[bucket][row] for row in rows]
        pixels = torch.from_numpy(hints).permute(0, 3, 1, 2).float() / 255
        return self.shown.latents[bucket][rows].float(), pixels, captions


def corpus_pictures(
    corpus: Corpus, placed: Sequence[tuple[int, Bucket]], caption: Callable[[int], str]
) -> Mapping[Bucket, list[Shown]]:
    """Return the pictures of a corpus that have a bucket."""

    def entry(index: int, bucket: Bucket) -> tuple[Image.Image, str]:
        picture, _ = buckets.fit(on_white(Image.fromarray(corpus.picture(index))), bucket)
        return picture, caption(index)

    found: dict[Bucket, list[Shown]] = {}
    for index, bucket in placed:
        found.setdefault(bucket, []).append(partial(entry, index, bucket))
    return found


def composed(corpus: Corpus, count: int, side: int) -> list[Shown]:
    """Return `count` scenes of cut-outs from a corpus (see `scenes`), for edges at any position."""
    groups = scene_groups(corpus) if count else []

    def scene(number: int) -> tuple[Image.Image, str]:
        rng = np.random.default_rng((0, number))
        planned = scenes.plan(corpus, groups, rng)
        return Image.fromarray(scenes.draw(corpus, planned, rng, side)), scenes.describe(corpus, planned, rng)

    return [partial(scene, number) for number in range(count)]


def controlnet_set(
    pictures: Mapping[Bucket, Sequence[Shown]], condition: str, encode: Encode, folder: Path, key: str
) -> ControlNetSet:
    """Encode pictures and compute their hints; both are cached in files in `folder`, in parts.

    condition: the preprocessor's name. key: identifies everything that determines pictures and latents.
    """
    used = buckets.ordered(pictures)
    parts = {bucket: _parts(pictures[bucket], bucket, condition, encode, folder, key) for bucket in used}
    return ControlNetSet(
        shown=BucketedSet(
            latents=tuple(torch.cat([latents for latents, _, _ in parts[bucket]]) for bucket in used),
            captions=tuple(tuple(each for _, _, texts in parts[bucket] for each in texts) for bucket in used),
        ),
        hints=tuple(tuple(each for _, hints, _ in parts[bucket] for each in hints) for bucket in used),
    )


Part = tuple[torch.Tensor, list[bytes], list[str]]


def _parts(
    shown: Sequence[Shown], bucket: Bucket, condition: str, encode: Encode, folder: Path, key: str
) -> list[Part]:
    parts = []
    for start in range(0, len(shown), PART):
        words = f"{key} {condition} {bucket} {len(shown)} {start} {PART}"
        path = folder / f"pictures-{hashlib.sha256(words.encode()).hexdigest()[:16]}.safetensors"
        if not path.exists():
            _write_part(path, shown[start : start + PART], condition, encode)
        parts.append(_read_part(path))
    return parts


def _write_part(path: Path, shown: Sequence[Shown], condition: str, encode: Encode) -> None:
    latents, hints, texts = [], [], []
    for each in tqdm(shown, desc="encoding", unit="picture", disable=None):
        picture, text = each()
        latents.append(encode(picture))
        hints.append(_file(preprocessed(picture, condition)))
        texts.append(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        "latents": torch.stack(latents).numpy(),
        "hints": np.frombuffer(b"".join(hints), np.uint8),
        "lengths": np.array([len(hint) for hint in hints], np.int64),
    }
    safetensors.write(path, tensors, {"captions": json.dumps(texts)})


def _read_part(path: Path) -> Part:
    file = safetensors.read(path)
    content, ends = file["hints"].tobytes(), np.cumsum(file["lengths"])
    hints = [content[end - length : end] for end, length in zip(ends, file["lengths"], strict=True)]
    return torch.from_numpy(np.array(file["latents"])), hints, json.loads(file.metadata["captions"])


def _file(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _opened(content: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))
