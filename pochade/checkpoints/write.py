"""Writes components for training; `folder` reads them."""

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy.typing as npt

from pochade.atomic import hidden_neighbour, replacing, sync_folder
from pochade.checkpoints import safetensors
from pochade.errors import OutputError

Array = npt.NDArray[Any]


def write_component(
    folder: Path | str,
    config: Mapping[str, Any],
    tensors: Mapping[str, Array],
    weights_name: str = "diffusion_pytorch_model.safetensors",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `config.json` and the weights as a folder, atomically.

    An existing component is replaced completely, so new weights never meet an old configuration. (Between two
    renames the old folder has a name that begins with a dot.) A folder that holds anything else is not
    replaced.

    weights_name: transformers expects "model.safetensors" in a text encoder's folder.
    metadata:     stored in the weight file. "format": "pt" is added, since transformers requires it.

    Raises OutputError.
    """
    folder = Path(folder).resolve()  # through a link, its target is replaced
    new, old = hidden_neighbour(folder), hidden_neighbour(folder)
    try:
        _refuse_foreign(folder)
        new.mkdir(parents=True)
        safetensors.write(new / weights_name, tensors, {"format": "pt", **(metadata or {})})
        write_json(new / "config.json", config)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        sync_folder(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if old.exists() and not folder.exists():
            with suppress(OSError):
                old.rename(folder)
        raise OutputError(
            f"the component '{folder}' could not be written: {error.strerror or error};"
            " check that the folder is writable and the disk is not full"
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def write_json(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, sorted and indented as in diffusers. Raises OutputError."""
    with replacing(Path(path)) as file:
        file.write(json.dumps(content, indent=2, sort_keys=True).encode() + b"\n")


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    names = sorted(path.name for path in folder.iterdir())
    foreign = [name for name in names if name != "config.json" and not name.endswith(".safetensors")]
    if foreign:
        raise OutputError(
            f"'{folder}' holds '{foreign[0]}', which is not part of a component; name a new or empty folder"
        )
