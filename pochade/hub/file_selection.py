"""Selects the files of a model on the hub: one variant of each weight, and safetensors instead of pickles."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from pochade.checkpoints.contents import missing_component
from pochade.checkpoints.folder import is_listed
from pochade.checkpoints.weight_files import SUFFIXES, preferred, shard_names, variants_of
from pochade.errors import InvalidRequest
from pochade.hub.hub_api import HubError, RemoteFile, RemoteModel

INDEX = "model_index.json"
NETWORKS = ("text_encoder", "text_encoder_2", "unet", "vae")
SMALL = ("scheduler", "tokenizer", "tokenizer_2")
"""Components without weights. Others, such as safety checkers, are not used and not downloaded."""
SINGLE_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
PART = re.compile(r"(?!\.)[^\\/:\x00-\x1f]+")


def choose_folder(
    model: RemoteModel, index: Mapping[str, Any], variant: str | None = None
) -> tuple[RemoteFile, ...]:
    """Select the files of a diffusers folder. index: the content of its model_index.json.

    variant: such as "fp16"; components without it fall back to files without a variant. None selects the same
        files as loading does: those without a variant first.

    Raises HubError for another kind of pipeline, or if weights are missing; InvalidRequest for a variant that
    no component has.
    """
    lacking = missing_component(index)
    if lacking:
        raise HubError(
            f"'{model.repo}' is a {index.get('_class_name', 'pipeline')} without '{lacking}'; only"
            " Stable Diffusion 1.x, 2.x and XL are supported"
        )
    by_folder: dict[str, list[str]] = {}
    for file in model.files:
        folder, _, name = file.path.rpartition("/")
        by_folder.setdefault(folder, []).append(name)
    wanted = {
        INDEX,
        *(name for name in by_folder.get("", ()) if name.upper().startswith(("LICENSE", "LICENCE"))),
    }
    variants: dict[str, list[str]] = {}
    for part in (*NETWORKS, *SMALL):
        if not is_listed(index, part):
            continue
        names = sorted(by_folder.get(part, ()))
        if not names:
            raise HubError(f"the {INDEX} of '{model.repo}' lists '{part}', but there is no such folder")
        texts = [name for name in names if name.endswith((".json", ".txt")) and ".index." not in name]
        weights = _weights(model, part, names, variant, variants) if part in NETWORKS else []
        wanted.update(f"{part}/{name}" for name in (*texts, *weights))
    if variant is not None and not any(variant in found for found in variants.values()):
        available = sorted({name for found in variants.values() for name in found if name})
        others = ", ".join(available) or "only files without a variant"
        raise InvalidRequest(f"'{model.repo}' has no variant '{variant}'; available: {others}")
    return tuple(_safe(file) for file in model.files if file.path in wanted)


def choose_file(model: RemoteModel, name: str) -> tuple[RemoteFile, ...]:
    """Select one file of tensors. Raises InvalidRequest if it does not exist, or if it is pickled and there
    is a safetensors file of the same name."""
    by_path = {file.path: file for file in model.files}
    if name not in by_path:
        similar = difflib.get_close_matches(name, by_path, 1, cutoff=0.4)
        raise InvalidRequest(
            f"'{model.repo}' has no file '{name}'{f'; similar: {similar[0]!r}' if similar else ''}"
        )
    if not name.endswith(SINGLE_FILES):
        raise InvalidRequest(f"'{name}' is not a file of tensors; those end in {', '.join(SINGLE_FILES)}")
    alternative = f"{name.rpartition('.')[0]}.safetensors"
    if not name.endswith(".safetensors") and alternative in by_path:
        raise InvalidRequest(f"'{name}' is pickled; use '{alternative}' instead")
    return (_safe(by_path[name]),)


def single_files(model: RemoteModel) -> list[str]:
    """Return the files of tensors at the top level, for messages if a model is not a diffusers folder."""
    paths = [file.path for file in model.files]
    return [path for path in paths if "/" not in path and path.endswith(SINGLE_FILES)]


def _weights(
    model: RemoteModel, part: str, names: Sequence[str], variant: str | None, variants: dict[str, list[str]]
) -> list[str]:
    """Return the names of a component's weight files, and add its variants to `variants`."""
    for suffix in SUFFIXES:
        found = variants_of(names, suffix)
        if not found:
            continue
        variants[part] = [name for name in found if name is not None]
        taken = variant if variant in found else preferred(found)
        name = found[taken]
        return [name, *shard_names(names, taken, suffix)] if name.endswith(".json") else [name]
    raise HubError(f"the component '{part}' of '{model.repo}' has no weights in safetensors or torch's files")


def _safe(file: RemoteFile) -> RemoteFile:
    """Check an untrusted name that becomes a path: it must stay below its folder."""
    if (
        not all(PART.fullmatch(part) for part in file.path.split("/"))
        or PurePosixPath(file.path).is_absolute()
    ):
        raise HubError(
            f"the model has a file with the unsafe name {ascii(file.path)[:100]}, which is not downloaded"
        )
    return file
