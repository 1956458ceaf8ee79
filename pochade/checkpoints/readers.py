"""The registry of checkpoint readers, and the choice of a reader for a file or folder.

Files that no reader claims are read as Stable Diffusion (`single_file`, `folder`), whose readers report what
a file is if it is something else. Readers are registered by families (`pochade.families`), which are loaded
on demand, since this package must not import them.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from pochade.checkpoints.detect import FORMATS
from pochade.checkpoints.few_steps import FewSteps
from pochade.checkpoints.folder import Checkpoint, Component
from pochade.checkpoints.overrides import Overrides
from pochade.checkpoints.safetensors import TensorFile

Json = Mapping[str, Any]

FAMILIES = "pochade.families.registry"
"""The module that registers the readers of the built-in families."""

LATENT_PIXEL = 8
"""Pixels per latent pixel in Stable Diffusion."""


@dataclass(frozen=True, eq=False)
class OpenedFile:
    """An open file. tensors: by name, created at access. stamp: changes when the file does."""

    file: TensorFile
    tensors: Mapping[str, npt.NDArray[Any]]
    stamp: str

    @property
    def path(self) -> Path:
        return self.file.header.path


class ReadFile(Protocol):
    """Reads one file. The keywords are those of `read_single_file`. Raises InvalidCheckpoint."""

    def __call__(
        self,
        opened: OpenedFile,
        *,
        vae: Path | str | Component | None,
        overrides: Overrides,
        prediction: str | None,
    ) -> Checkpoint: ...


class ReadFolder(Protocol):
    """Reads a diffusers folder. The arguments are those of `read_folder`. Raises InvalidCheckpoint."""

    def __call__(
        self, folder: Path, index: Json, variant: str | None, prediction: str | None
    ) -> Checkpoint: ...


def _unknown(path: Path, metadata: Mapping[str, str]) -> FewSteps | None:
    return None


@dataclass(frozen=True, eq=False, kw_only=True)
class Reader:
    """Reads the files of one family.

    label: of the family, for lists. side: the assumed picture size before a model is loaded, px.
    marks: prefixes of names; a file belongs to the family if each prefix occurs. pipelines: the `_class_name`
    of the folders that it reads. few_steps: the settings for few steps, from path and metadata, for lists.
    """

    label: str
    marks: tuple[str, ...]
    side: int = 512
    read_file: ReadFile
    pipelines: tuple[str, ...] = ()
    read_folder: ReadFolder | None = None
    few_steps: Callable[[Path, Mapping[str, str]], FewSteps | None] = _unknown

    def claims(self, names: Collection[str]) -> bool:
        """Whether a file with tensors of these names belongs to this family."""
        return bool(self.marks) and all(any(name.startswith(mark) for name in names) for mark in self.marks)


_readers: list[Reader] = []


def register_reader(reader: Reader) -> None:
    """Register a reader. Called by `families.registry.register`."""
    if reader not in _readers:
        _readers.append(reader)


def remove_reader(reader: Reader) -> None:
    """Undo `register_reader`."""
    if reader in _readers:
        _readers.remove(reader)


def reader_of_file(names: Collection[str]) -> Reader | None:
    """Return the reader that claims a file with tensors of these names; None means Stable Diffusion's."""
    return next((reader for reader in _known() if reader.claims(names)), None)


def reader_of_folder(index: Json) -> Reader | None:
    """Return the reader of a folder with this `model_index.json`; None means Stable Diffusion's."""
    name = index.get("_class_name")
    found = (each for each in _known() if each.read_folder is not None and name in each.pipelines)
    return next(found, None)


def likely_side(family: str) -> int | None:
    """Return the assumed picture size of a model of this family, px; None for an unknown family.

    family: as in `contents.Contents`: "SDXL, inpainting".
    """
    label = family.partition(",")[0]
    if label in FORMATS:
        return FORMATS[label].sample_sizes["epsilon"] * LATENT_PIXEL
    return next((reader.side for reader in _known() if reader.label == label), None)


def _known() -> tuple[Reader, ...]:
    import_module(FAMILIES)
    return tuple(_readers)
