"""Textual inversion embeddings: vectors that represent a new word in prompts (Gal et al. 2022)."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pochade.adapters.keys import TEXT, TEXT_2
from pochade.adapters.library import stem
from pochade.adapters.view import sum_type
from pochade.checkpoints.check import check_finite
from pochade.checkpoints.fingerprint import fingerprint
from pochade.checkpoints.weight_files import open_tensors
from pochade.errors import InvalidCheckpoint

Array = NDArray[Any]

TABLE = "embeddings.token_embedding.weight"
MAX_VECTORS = 75
"""The most vectors of an embedding: a longer one would not fit into a chunk of a prompt."""

CLIP_L, CLIP_G = "clip_l", "clip_g"
FAMILIES: Mapping[int, str] = {768: "SD 1.x", 1024: "SD 2.x", 1280: "SDXL"}
HASH_DIGITS = 12


class OtherFamily(InvalidCheckpoint):
    """A valid embedding for models of another family."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """A new word. names: its names in prompts. vectors: text encoder -> (n, width).

    fingerprint: changes with the file.
    """

    path: Path
    names: tuple[str, ...]
    vectors: Mapping[str, Array]
    fingerprint: str

    @property
    def count(self) -> int:
        """The number of tokens of the word."""
        return len(next(iter(self.vectors.values())))

    @cached_property
    def hash(self) -> str:
        """The first 12 hexadecimal digits of the file's SHA-256, as in A1111."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:HASH_DIGITS]


def read_embedding(path: Path | str, widths: Mapping[str, int]) -> Embedding:
    """Read an embedding for a model whose text encoders have these widths.

    A file holds a table named `emb_params`, or `*` in a pickle's `string_to_param`; or, for XL, tables named
    `clip_l` and `clip_g`; or, as diffusers writes it, a vector or table with the name of its word.

    Raises OtherFamily, naming the family, for an embedding of other models, InvalidCheckpoint for a damaged
    file.
    """
    path = Path(path)
    file = open_tensors(path)
    tables = {name: _table(path, name, file[name]) for name in file}
    names = [stem(path)]
    if CLIP_L in tables or CLIP_G in tables:
        if set(tables) != {CLIP_L, CLIP_G}:
            raise InvalidCheckpoint(f"'{path}' is not an SDXL embedding: it has {_listed(tables)}")
        vectors = {TEXT: tables[CLIP_L], TEXT_2: tables[CLIP_G]}
    elif len(tables) == 1:
        (name, table) = next(iter(tables.items()))
        vectors = {TEXT: table}
        if name not in ("emb_params", "*", names[0]):
            names.append(name)
    else:
        raise InvalidCheckpoint(
            f"'{path}' is not an embedding: it has {len(tables)} tensors, {_listed(tables)}; an embedding has"
            f" 'emb_params', '{CLIP_L}' and '{CLIP_G}', or one by the name of its word"
        )
    check_finite(file, path)
    _check_widths(path, vectors, widths)
    if len({len(table) for table in vectors.values()}) > 1:
        raise InvalidCheckpoint(
            f"'{path}' has {len(vectors[TEXT])} vectors for one text encoder and {len(vectors[TEXT_2])} for"
            " the other"
        )
    return Embedding(path, tuple(names), vectors, fingerprint([file]))


@dataclass(frozen=True, eq=False, repr=False)
class ExtendedEmbedding(Mapping[str, Array]):
    """A text encoder's weights with additional rows in its token table, in the table's type; an 8-bit table
    is converted to f16, which trained embeddings need."""

    tensors: Mapping[str, Array]
    rows: Sequence[Array]

    def __getitem__(self, name: str) -> Array:
        tensor = self.tensors[name]
        if name != TABLE:
            return tensor
        dtype = sum_type(tensor.dtype)
        return np.concatenate([tensor.astype(dtype, copy=False), *(rows.astype(dtype) for rows in self.rows)])

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def _table(path: Path, name: str, tensor: Array) -> Array:
    """(n, width); a single vector is a table of one row."""
    table = tensor.reshape(1, -1) if tensor.ndim == 1 else tensor
    if table.ndim != 2 or table.dtype.kind not in "fV" or not 1 <= len(table) <= MAX_VECTORS:
        raise InvalidCheckpoint(
            f"'{path}' is not an embedding: '{ascii(name)[1:-1][:80]}' has the shape {tensor.shape}; a"
            f" table of 1 to {MAX_VECTORS} vectors is expected"
        )
    return table


def _check_widths(path: Path, vectors: Mapping[str, Array], widths: Mapping[str, int]) -> None:
    found = {encoder: table.shape[1] for encoder, table in vectors.items()}
    if found == widths:
        return
    theirs = "SDXL" if len(found) > 1 else FAMILIES.get(found[TEXT])
    ours = "SDXL" if len(widths) > 1 else FAMILIES.get(widths[TEXT])
    made = "" if theirs is None else f", which is one for {theirs}"
    model = "" if ours is None else f", {ours}"
    raise OtherFamily(
        f"the embedding '{path}' has vectors of {_wide(found)}{made}; the text of this model{model}, has"
        f" {_wide(widths)}"
    )


def _wide(widths: Mapping[str, int]) -> str:
    return " and ".join(f"{width} numbers" for width in widths.values())


def _listed(tables: Mapping[str, Array]) -> str:
    return ", ".join(ascii(name)[:60] for name in list(tables)[:5]) or "no tensors"
