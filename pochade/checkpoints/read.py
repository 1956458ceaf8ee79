"""Reads checkpoints of any layout."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pochade.checkpoints.detect import FORMATS, FileFormat
from pochade.checkpoints.folder import Checkpoint, Component, read_folder
from pochade.checkpoints.json_files import read_table
from pochade.checkpoints.overrides import Overrides
from pochade.checkpoints.readers import reader_of_folder
from pochade.checkpoints.single_file import read_autoencoder, read_single_file
from pochade.errors import InvalidRequest

PREDICTIONS: Mapping[str, str] = {
    "epsilon": "epsilon",
    "eps": "epsilon",
    "v_prediction": "v_prediction",
    "v": "v_prediction",
}
PIPELINES = frozenset(each.pipeline for each in FORMATS.values())
"""Stable Diffusion's pipelines; other names select the readers of other families."""


def read_checkpoint(
    path: Path | str,
    *,
    variant: str | None = None,
    vae: Path | str | Component | None = None,
    config: Path | str | Mapping[str, Any] | None = None,
    prediction: str | None = None,
) -> Checkpoint:
    """Read a diffusers folder or a single file. The arguments are those of `pochade.load`.

    vae: may also be the autoencoder of a checkpoint that has been read.

    Raises InvalidCheckpoint if something is missing, damaged or not supported; InvalidRequest for an argument
    that does not apply to the layout.
    """
    if prediction is not None and prediction not in PREDICTIONS:
        raise InvalidRequest(f"prediction '{prediction}' is unknown; one of: epsilon, v_prediction")
    wanted = None if prediction is None else PREDICTIONS[prediction]
    path = Path(path)
    if path.is_file():
        if variant is not None:
            raise InvalidRequest(
                f"variant '{variant}' was requested, but '{path}' is one file; only diffusers folders have"
                " variants"
            )
        return read_single_file(path, vae=vae, overrides=Overrides.read(config), prediction=wanted)
    checkpoint = _read_folder(path, variant, wanted)
    if config is not None:
        raise InvalidRequest(
            f"config was given, but '{path}' is a diffusers folder; its config.json files are used"
        )
    if vae is not None:
        size = checkpoint.unet.config.get("sample_size", 64)
        if not isinstance(vae, Component):
            vae = read_autoencoder(vae, format_of(checkpoint), size)
        checkpoint = replace(checkpoint, vae=vae)
    return checkpoint


def _read_folder(path: Path, variant: str | None, prediction: str | None) -> Checkpoint:
    file = path / "model_index.json"
    index = read_table(file) if file.is_file() else {}
    if index.get("_class_name") not in PIPELINES:
        reader = reader_of_folder(index)
        if reader is not None and reader.read_folder is not None:
            return reader.read_folder(path, index, variant, prediction)
    return read_folder(path, variant, prediction)


def format_of(checkpoint: Checkpoint) -> FileFormat:
    """Return the file format of this family. Raises InvalidRequest for families other than Stable
    Diffusion."""
    if checkpoint.family not in FORMATS:
        raise InvalidRequest(
            f"'{checkpoint.name}' is {checkpoint.family}; only checkpoints of {', '.join(FORMATS)} can be"
            " converted to another layout, or given another autoencoder"
        )
    return FORMATS[checkpoint.family]
