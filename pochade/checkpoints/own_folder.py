"""Pochade's own folder of models, the only one in which it adds and removes models.

A folder becomes Pochade's own if it is empty when Pochade first uses it, which a marker file records, or if
it is `settings.models_dir` and not a link. Folders of other programs are only read.
"""

import json
import os
import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pochade.atomic import creating, unwritable
from pochade.checkpoints.grids import grids_path
from pochade.checkpoints.library import ModelEntry, size_of
from pochade.errors import OutputError
from pochade.settings import models_dir

MARKER = ".pochade-models"
MARKER_TEXT = (
    b"`pochade models pull` puts models into this folder, and `pochade models remove` removes them.\n"
)
STAGES = ".pulls"
"""The folder for incomplete downloads. Names that begin with a dot are never taken for models."""


def own_folder(roots: Sequence[Path]) -> Path:
    """Return the first root that is Pochade's own. Raises OutputError if there is none."""
    for root in roots:
        if is_own(root):
            return root
    raise OutputError(
        f"none of {', '.join(map(str, roots))} is a folder of Pochade's own, and others are only read; name"
        " an empty or a new one"
    )


def is_own(root: Path) -> bool:
    """Whether models may be added to a folder and removed from it."""
    if (root / MARKER).is_file():
        return True
    try:
        if not any(root.iterdir()):
            return True
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return root == models_dir() and not root.is_symlink()


def claim(root: Path) -> None:
    """Create the folder with its marker. Raises OutputError if that fails."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with creating(root / MARKER) as file:
            file.write(MARKER_TEXT)
    except FileExistsError:  # the marker exists, or the folder is a file
        if not root.is_dir():
            raise OutputError(f"'{root}' is a file; models need a folder") from None
    except OSError as error:
        raise unwritable(root, error) from error


def unfinished(roots: Sequence[Path]) -> list[ModelEntry]:
    """List unfinished pulls. Their names end in the requested model: "owner/name@commit"."""
    stages = [
        (root, stage)
        for root in roots
        if is_own(root) and (root / STAGES).is_dir()
        for stage in sorted((root / STAGES).iterdir())
        if stage.is_dir()
    ]
    return [ModelEntry(stage.name.replace("--", "/", 1), stage, root) for root, stage in stages]


def remove(entry: ModelEntry) -> int:
    """Remove a model, its 8-bit grids and the folders that become empty; returns the bytes that were freed.

    It is renamed first, so a partly removed model never looks like a model. Of a link, only the link is
    removed. Raises OutputError if it is not in Pochade's own folder, or if the operating system refuses.
    """
    check_removable(entry)
    path = entry.path
    freed = 0 if path.is_symlink() else size_of(path)
    hidden = path.with_name(f".{secrets.token_hex(8)}.removed")
    try:
        path.rename(hidden)
        if hidden.is_dir() and not hidden.is_symlink():
            shutil.rmtree(hidden)
        else:
            hidden.unlink()
            record_of(path).unlink(missing_ok=True)
            grids_path(path).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"'{path}' could not be removed: {error.strerror or error}") from error
    folder = path.parent
    while folder != entry.root and folder.is_relative_to(entry.root):
        with suppress(OSError):
            folder.rmdir()
        if folder.exists():
            break
        folder = folder.parent
    return freed


def check_removable(entry: ModelEntry) -> None:
    """Raise OutputError, with the path, for a model outside of Pochade's own folder."""
    home = Path(os.path.realpath(entry.path.parent))
    if not is_own(entry.root) or not home.is_relative_to(os.path.realpath(entry.root)):
        raise OutputError(
            f"'{entry.path}' is not in a folder of Pochade's own; Pochade does not remove models of other"
            " programs, remove it yourself"
        )


def record_of(path: Path) -> Path:
    """Return the file that records a pull: inside a model's folder, or next to a single file."""
    return path / ".pochade.json" if path.is_dir() else path.with_name(f".{path.name}.pochade.json")


def read_record(path: Path) -> dict[str, Any]:
    """Read the record of a pull; empty if there is none or it cannot be read."""
    try:
        record = json.loads(record_of(path).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
