"""Reads tiny autoencoders: diffusers folders or files, or the two files of their author."""

import json
from pathlib import Path

from pochade.checkpoints.detect import detect_tiny_autoencoder
from pochade.checkpoints.fingerprint import fingerprint
from pochade.checkpoints.folder import Component
from pochade.checkpoints.keymaps import LazyTensors, rename
from pochade.checkpoints.ldm import tiny_autoencoder_rules
from pochade.checkpoints.weight_files import open_tensors
from pochade.configs.write_json import describe_tiny_autoencoder
from pochade.errors import InvalidCheckpoint

CODERS = ("encoder", "decoder")
SUFFIXES = (".safetensors", ".pth")


def is_tiny(path: Path) -> bool:
    """Return whether `read_tiny_autoencoder` reads a path.

    It reads a folder of its author's two files, one of the two, or a file in diffusers' names.
    """
    if path.is_dir():
        return not (path / "config.json").exists() and len(_halves_in(path)) == len(CODERS)
    return path.is_file() and ("decoder.layers.0.weight" in open_tensors(path) or _coder(path) is not None)


def read_tiny_autoencoder(path: Path) -> Component:
    """Read a tiny autoencoder; its configuration is detected from the tensors' shapes.

    Raises InvalidCheckpoint if one of two files or a tensor is missing.
    """
    if path.is_file() and _coder(path) is None:
        halves = {"": path}
    else:
        folder = path if path.is_dir() else path.parent
        like = None if path.is_dir() else path
        halves = _halves_in(folder, like)
        if len(halves) < len(CODERS):
            raise InvalidCheckpoint(
                f"'{path}' is half of a tiny autoencoder; its other half, {' or '.join(_other(path))}, must"
                " be in the same folder"
            )
    files = {coder: open_tensors(file) for coder, file in halves.items()}
    parts = [
        rename(file, tiny_autoencoder_rules(coder) if coder else (), halves[coder], strict=bool(coder))
        for coder, file in files.items()
    ]
    tensors = LazyTensors({name: maker for part in parts for name, maker in part.makers.items()})
    config = describe_tiny_autoencoder(detect_tiny_autoencoder(tensors, path))
    return Component(
        name="vae",
        config=config,
        tensors=tensors,
        files=tuple(halves.values()),
        fingerprint=fingerprint(list(files.values()), extra=json.dumps(config, sort_keys=True).encode()),
    )


def _coder(path: Path) -> str | None:
    """Return "encoder" or "decoder" according to the file name: taesd_encoder, taesdxl_decoder, ..."""
    found = [coder for coder in CODERS if path.stem.startswith("tae") and path.stem.endswith(f"_{coder}")]
    return found[0] if found and path.suffix in SUFFIXES else None


def _halves_in(folder: Path, like: Path | None = None) -> dict[str, Path]:
    """Find both halves: "encoder" or "decoder" -> file. like: one of them; None means the first pair."""
    files = sorted(file for file in folder.iterdir() if _coder(file) is not None)
    kinds = [_kind(like)] if like is not None else [_kind(file) for file in files]
    for kind in kinds:
        halves = {coder: file for file in files if (coder := _coder(file)) and _kind(file) == kind}
        if len(halves) == len(CODERS) or like is not None:
            return {coder: halves[coder] for coder in CODERS if coder in halves}
    return {}


def _kind(path: Path) -> tuple[str, str]:
    """Return ("taesd", ".safetensors") for "taesd_encoder.safetensors"."""
    return path.stem.rpartition("_")[0], path.suffix


def _other(path: Path) -> list[str]:
    kind, suffix = _kind(path)
    return [f"'{kind}_{coder}{suffix}'" for coder in CODERS if coder != _coder(path)]
