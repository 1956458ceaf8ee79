"""Finds models by name in the folders where users keep them.

A root is one such folder: Pochade's own, that of A1111's web UI or of ComfyUI, the `models` folder inside one
of them, or any folder with files. If a root has the folders of LAYOUTS, only these are searched, since the
rest may be whole programs. The kind of a file is found from its content (`contents`), not from its folder.

Names are only compared with the files that were found and never joined to a path, so they cannot leave a
root. Symbolic links are followed, except in cycles.
"""

import difflib
import json
import math
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pochade.atomic import replacing
from pochade.checkpoints.contents import (
    KINDS,
    MODEL,
    OTHER,
    UNREADABLE,
    Contents,
    contents_of,
)
from pochade.checkpoints.few_steps import FewSteps
from pochade.checkpoints.weight_files import open_tensors
from pochade.errors import InvalidCheckpoint, OutputError
from pochade.request import Defaults

FOLDERS = {
    "model": ("checkpoints", "diffusers", "Stable-diffusion"),
    "vae": ("vae", "VAE", "vae_approx", "VAE-approx"),
    "lora": ("loras", "Lora", "LyCORIS"),
    "embedding": ("embeddings",),
    "controlnet": ("controlnet", "ControlNet", "extensions/sd-webui-controlnet/models"),
    "upscaler": ("upscale_models", "ESRGAN", "RealESRGAN"),
}
"""Kind -> folders for it: first the name in Pochade and ComfyUI, then those in other programs."""

LAYOUTS = tuple(
    f"{parent}{name}" for names in FOLDERS.values() for name in names for parent in ("models/", "")
)
SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
INDEX = "model_index.json"
DIFFUSERS_NAMES = ("diffusion_pytorch_model", "diffusion_pytorch_model.fp16")
MAX_DEPTH = 6
"""How many levels of folders are searched below a folder of LAYOUTS."""
MAX_SIMILAR = 3
WORDS = {
    "vae": "autoencoder",
    "lora": "adapter",
    "embedding": "embedding",
    "controlnet": "ControlNet",
    "upscaler": "upscaler",
}
"""The names of kinds in messages; other kinds are called a model."""


@dataclass(frozen=True)
class ModelEntry:
    """A file of tensors, or a diffusers folder.

    name: its path below the folder of its kind, without the suffix: "sd15", "owner/name". The part after any
        slash and the name of its folder are also accepted as names.
    """

    name: str
    path: Path
    root: Path

    def answers_to(self, name: str) -> bool:
        """Whether `name` matches this entry."""
        own, requested = _normalized(self.name), _normalized(name)
        suffix = self.path.suffix.lower()
        if suffix in SUFFIXES and requested.endswith(suffix):
            requested = requested.removesuffix(suffix)
        return bool(requested) and (
            own == requested or own.endswith(f"/{requested}") or own.rpartition("/")[0] == requested
        )


def _normalized(name: str) -> str:
    """Normalise a name: case, Unicode form (macOS decomposes accents), and the slashes of Windows."""
    return unicodedata.normalize("NFC", name.casefold()).replace("\\", "/")


def entries(roots: Iterable[Path]) -> list[ModelEntry]:
    """List all files and folders that may be models, by name. Opens no files; a root need not exist."""
    found: dict[Path, ModelEntry] = {}
    for root in roots:
        for base in _bases(root):
            for path in _walk(base, frozenset()):
                found.setdefault(path, ModelEntry(_name(path, base, root), path, root))
    return sorted(found.values(), key=lambda entry: (entry.name.casefold(), str(entry.path)))


def describe(found: Iterable[ModelEntry], cache: Path) -> list[tuple[ModelEntry, Contents]]:
    """Identify each entry. Headers are read once and cached in the JSON file `cache`.

    The cache is keyed by path, size and modification time. If it is damaged or cannot be written, headers are
    read again.
    """
    known = _read_cache(cache)
    updated = dict(known)
    described = []
    for entry in found:
        try:
            status = entry.path.stat()
        except OSError:  # deleted meanwhile
            continue
        key = f"{entry.path} {status.st_size} {status.st_mtime_ns}"
        contents = known.get(key) or contents_of(entry.path)
        # Unreadable and unknown files are not cached: permissions may change, later versions may know them.
        if entry.path.is_file() and contents.kind not in (UNREADABLE, OTHER):
            updated[key] = contents
        described.append((entry, contents))
    if updated != known:
        with suppress(OSError, OutputError):
            cache.parent.mkdir(parents=True, exist_ok=True)
            with replacing(cache) as file:
                table = {key: _to_json(contents) for key, contents in updated.items()}
                file.write(json.dumps(table, indent=1).encode())
    return described


def entries_in(kind_folders: Iterable[Path]) -> list[ModelEntry]:
    """List everything in folders of one kind, including subfolders. Opens no files."""
    found: dict[Path, ModelEntry] = {}
    for folder in kind_folders:
        for path in _walk(folder, frozenset()):
            found.setdefault(path, ModelEntry(_name(path, folder, folder), path, folder))
    return sorted(found.values(), key=lambda entry: (entry.name.casefold(), str(entry.path)))


def folders(roots: Iterable[Path], kind: str) -> list[Path]:
    """List the existing folders of a kind (of FOLDERS) in the roots, each only once."""
    known: dict[tuple[int, int], Path] = {}
    for root in roots:
        for name in FOLDERS[kind]:
            for folder in (root / "models" / name, root / name):
                if folder.is_dir():
                    known.setdefault(_identity(folder), folder)
    return list(known.values())


def find(model: str | Path, roots: Sequence[Path], kind: str = MODEL) -> Path:
    """Return the path of a model given by path or by name. An existing path takes precedence.

    kind: one of `contents.KINDS`, which decides if several entries have the name. For a network in diffusers'
    layout the result is the folder that holds its config.json.

    Raises InvalidCheckpoint, listing the candidates if the name is ambiguous, or similar names if it is
    unknown.
    """
    path = Path(model)
    if path.exists():
        return path
    return whole(pick(str(model), entries(roots), roots, kind)).path


def whole(entry: ModelEntry) -> ModelEntry:
    """For a network in diffusers' layout, return the folder that holds its config.json."""
    folder = entry.path.parent
    if entry.path.stem not in DIFFUSERS_NAMES or not (folder / "config.json").is_file():
        return entry
    return ModelEntry(entry.name.rpartition("/")[0] or folder.name, folder, entry.root)


def matching_entries(name: str, known: Sequence[ModelEntry], kind: str | None = None) -> list[ModelEntry]:
    """Return the entries of `known` that match `name`: the rule for all names of files.

    A name matches if it equals the entry's name or a part of it after a slash, in any case, with either kind
    of slash, with or without the suffix, or if it is the name of its folder. If several entries match, those
    of `kind` (of `contents.KINDS`) are preferred, then exact names, first ignoring case and then not.
    """
    matches = [entry for entry in known if entry.answers_to(name)]
    if len(matches) > 1 and kind is not None:
        matches = [entry for entry in matches if contents_of(entry.path).kind == kind] or matches
    if len(matches) > 1:
        matches = [entry for entry in matches if _normalized(entry.name) == _normalized(name)] or matches
    if len(matches) > 1:
        matches = [entry for entry in matches if entry.name == name] or matches
    return matches


def shortest_names(known: Sequence[ModelEntry]) -> list[str]:
    """Return for each entry the shortest part of its name that matches nothing else among `known`."""
    ends = [_ends(entry) for entry in known]
    counts = Counter(_normalized(end) for each in ends for end in each)
    counts.update({_normalized(entry.name).rpartition("/")[0] for entry in known if "/" in entry.name})
    return [next((end for end in each if counts[_normalized(end)] == 1), each[-1]) for each in ends]


def _ends(entry: ModelEntry) -> list[str]:
    """ "styles/ink" -> ["ink", "styles/ink"]."""
    parts = entry.name.split("/")
    return ["/".join(parts[-count:]) for count in range(1, len(parts) + 1)]


def pick(
    name: str, known: Sequence[ModelEntry], roots: Sequence[Path], kind: str | None = None
) -> ModelEntry:
    """Return the only entry of `known` that matches. Raises as `find` does. roots: for messages."""
    matches = matching_entries(name, known, kind)
    if len(matches) == 1:
        return matches[0]
    if matches:
        listed = "".join(f"\n  {entry.name}  {entry.path}" for entry in matches)
        raise InvalidCheckpoint(
            f"'{name}' matches {len(matches)} models; use a longer name or a path:{listed}"
        )
    what = WORDS.get(kind or MODEL)
    pull = ", 'pochade models pull OWNER/NAME' downloads one" if what is None else ""
    raise InvalidCheckpoint(
        f"{'' if what is None else f'the {what} '}'{name}' does not exist; check the path. No"
        f" {what or 'model'} has that name{_similar(name, known)}, in {', '.join(map(str, roots))}: 'pochade"
        f" models list' lists all{pull}"
    )


def size_of(path: Path) -> int:
    """Return the size in bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(file.stat().st_size for file in files)


def weights_of(path: Path) -> int:
    """Count the parameters in a file, or in all files of a folder. Files without tensors count 0."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(map(_weights, files))


# --- inside -----------------------------------------------------------------------------------------------


def _bases(root: Path) -> list[Path]:
    """The folders of a root to search, each only once on file systems that ignore case."""
    if (root / INDEX).is_file():
        return [root]
    known: dict[tuple[int, int], Path] = {}
    for layout in LAYOUTS:
        if (root / layout).is_dir():
            known.setdefault(_identity(root / layout), root / layout)
    return list(known.values()) or ([root] if root.is_dir() else [])


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """Yield files and diffusers folders below `folder`. above: the parent folders, to detect cycles."""
    try:
        if (folder / INDEX).is_file():
            yield folder
            return
        identity = _identity(folder)
        if identity in above or len(above) > MAX_DEPTH:
            return
        inside = sorted(os.scandir(folder), key=lambda each: each.name)
    except OSError:  # not readable
        return
    for each in inside:
        if each.name.startswith("."):
            continue
        if each.is_dir():
            yield from _walk(Path(each.path), above | {identity})
        elif each.is_file() and Path(each.name).suffix.lower() in SUFFIXES:
            yield Path(each.path)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _name(path: Path, base: Path, root: Path) -> str:
    if path == base:
        return root.name
    inside = path.relative_to(base)
    for part in inside.parts:  # the cache of huggingface_hub: models--OWNER--NAME/snapshots/COMMIT
        if part.startswith("models--"):
            return part.removeprefix("models--").replace("--", "/")
    name = inside.as_posix()
    return name if path.is_dir() else name.removesuffix(path.suffix)


def _similar(name: str, known: Sequence[ModelEntry]) -> str:
    display_names = [
        entry.name.rpartition("/")[0] if entry.path.stem in DIFFUSERS_NAMES else entry.name for entry in known
    ]
    names = {each.rpartition("/")[2].casefold(): each for each in display_names}
    names |= {each.casefold(): each for each in display_names}
    similar = difflib.get_close_matches(name.casefold(), names, MAX_SIMILAR)
    if not similar:
        return ""
    names_shown = ", ".join(f"'{names[each]}'" for each in dict.fromkeys(similar))
    return f" (similar: {names_shown})"


def _to_json(contents: Contents) -> list[Any]:
    few = contents.few_steps
    return [
        contents.kind,
        contents.family,
        None if few is None else [few.kind, few.reason, vars(few.defaults)],
    ]


def _read_cache(cache: Path) -> dict[str, Contents]:
    with suppress(OSError, ValueError):
        loaded = json.loads(cache.read_text("utf-8"))
        if isinstance(loaded, dict):
            found = {key: _from_json(value) for key, value in loaded.items()}
            return {key: contents for key, contents in found.items() if contents is not None}
    return {}


def _from_json(value: object) -> Contents | None:
    """The inverse of `_to_json`; None for a damaged or outdated entry."""
    match value:
        case [str(kind), str(family), None] if kind in KINDS and kind != OTHER:
            return Contents(kind, family)
        case [
            str(kind),
            str(family),
            [
                str(name),
                str(reason),
                {
                    "steps": int(steps),
                    "cfg_scale": float(scale),
                    "sampler": str(sampler),
                    "schedule": str(schedule),
                },
            ],
        ] if kind in KINDS:
            defaults = Defaults(steps=steps, cfg_scale=scale, sampler=sampler, schedule=schedule)
            return Contents(kind, family, FewSteps(kind=name, reason=reason, defaults=defaults))
    return None


def _weights(file: Path) -> int:
    try:
        return sum(math.prod(entry.shape) for entry in open_tensors(file).header.entries.values())
    except InvalidCheckpoint:
        return 0
