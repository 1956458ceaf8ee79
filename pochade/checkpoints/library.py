"""Models by name: what lies in the folders where people keep models.

A root is one such folder: Pochade's own, that of A1111's web UI or of ComfyUI, the `models` folder inside one
of them, or just a folder with files. Where a root has the folders of LAYOUTS, only these are looked through:
beside them lie whole programs. What a file is, its content tells (`contents`), never the folder it is in.

Names are only ever compared with what was found: none is joined to a path, so none leads out of a root. Links
are followed, since a person put them there; in circles they are not.
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
    UNREADABLE,
    Contents,
    contents_of,
)
from pochade.checkpoints.few_steps import FewSteps
from pochade.checkpoints.kinds import OTHER
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
"""Kind -> the folders that it is kept in: the first is Pochade's and ComfyUI's name, then come others."""

LAYOUTS = tuple(
    f"{parent}{name}" for names in FOLDERS.values() for name in names for parent in ("models/", "")
)
SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
INDEX = "model_index.json"
DIFFUSERS_NAMES = ("diffusion_pytorch_model", "diffusion_pytorch_model.fp16")
MAX_DEPTH = 6
"""Folders below a folder of LAYOUTS."""
NEAR_NAMES = 3
WORDS = {
    "vae": "autoencoder",
    "lora": "adapter",
    "embedding": "embedding",
    "controlnet": "ControlNet",
    "upscaler": "upscaler",
}
"""What a message calls a kind; what is not here is a model."""


@dataclass(frozen=True)
class ModelEntry:
    """A file of tensors, or a diffusers folder.

    name: its path below the folder of its kind, without the suffix: "sd15", "owner/name". Any end of it that
        begins after a slash names it too, and so does the folder that it is in.
    """

    name: str
    path: Path
    root: Path

    def answers_to(self, name: str) -> bool:
        """Whether someone who says `name` may mean this one."""
        own, asked = _alike(self.name), _alike(name)
        suffix = self.path.suffix.lower()
        if suffix in SUFFIXES and asked.endswith(suffix):
            asked = asked.removesuffix(suffix)
        return bool(asked) and (own == asked or own.endswith(f"/{asked}") or own.rpartition("/")[0] == asked)


def _alike(name: str) -> str:
    """What is the same for all ways to write a name: in any case, with accents as letters of their own (as
    macOS stores them) or not, and with the slashes of Windows."""
    return unicodedata.normalize("NFC", name.casefold()).replace("\\", "/")


def entries(roots: Iterable[Path]) -> list[ModelEntry]:
    """Everything that may be a model or a part of one, by name. Opens no file; a root need not exist."""
    found: dict[Path, ModelEntry] = {}
    for root in roots:
        for base in _bases(root):
            for path in _walk(base, frozenset()):
                found.setdefault(path, ModelEntry(_name(path, base, root), path, root))
    return sorted(found.values(), key=lambda entry: (entry.name.casefold(), str(entry.path)))


def describe(found: Iterable[ModelEntry], memory: Path) -> list[tuple[ModelEntry, Contents]]:
    """What each entry is. Headers are read once: the JSON file `memory` keeps what they told.

    It does so under path, size and modification time. A memory that is damaged, or cannot be written, only
    costs the time of reading again.
    """
    known = _remembered(memory)
    told = dict(known)
    described = []
    for entry in found:
        try:
            status = entry.path.stat()
        except OSError:  # gone meanwhile
            continue
        key = f"{entry.path} {status.st_size} {status.st_mtime_ns}"
        contents = known.get(key) or contents_of(entry.path)
        # what cannot be read may change with its permissions; what is unknown, a later version may know
        if entry.path.is_file() and contents.kind not in (UNREADABLE, OTHER):
            told[key] = contents
        described.append((entry, contents))
    if told != known:
        with suppress(OSError, OutputError):
            memory.parent.mkdir(parents=True, exist_ok=True)
            with replacing(memory) as file:
                table = {key: _kept(contents) for key, contents in told.items()}
                file.write(json.dumps(table, indent=1).encode())
    return described


def entries_in(places: Iterable[Path]) -> list[ModelEntry]:
    """Everything in folders of one kind, whatever other folders they hold. Opens no file."""
    found: dict[Path, ModelEntry] = {}
    for place in places:
        for path in _walk(place, frozenset()):
            found.setdefault(path, ModelEntry(_name(path, place, place), path, place))
    return sorted(found.values(), key=lambda entry: (entry.name.casefold(), str(entry.path)))


def folders(roots: Iterable[Path], kind: str) -> list[Path]:
    """The folders of a kind (of FOLDERS) that there are in the roots, one with two names once."""
    known: dict[tuple[int, int], Path] = {}
    for root in roots:
        for name in FOLDERS[kind]:
            for folder in (root / "models" / name, root / name):
                if folder.is_dir():
                    known.setdefault(_identity(folder), folder)
    return list(known.values())


def find(model: str | Path, roots: Sequence[Path], kind: str = MODEL) -> Path:
    """The path of what someone calls `model`: a path if there is one, else the one model with that name.

    kind: of `contents.KINDS`; where several have the name, only those of this kind are meant. Of a network in
    diffusers' layout it is the folder that its config.json is in.

    Raises InvalidCheckpoint, naming the candidates, if there are several; naming those with names like it,
    if there is none.
    """
    path = Path(model)
    if path.exists():
        return path
    return whole(pick(str(model), entries(roots), roots, kind)).path


def whole(entry: ModelEntry) -> ModelEntry:
    """Of a network in diffusers' layout, the folder that its config.json is in, which has a name to go by."""
    folder = entry.path.parent
    if entry.path.stem not in DIFFUSERS_NAMES or not (folder / "config.json").is_file():
        return entry
    return ModelEntry(entry.name.rpartition("/")[0] or folder.name, folder, entry.root)


def meant_by(name: str, known: Sequence[ModelEntry], kind: str | None = None) -> list[ModelEntry]:
    """Those of `known` that someone who says `name` may mean: the one rule for all names of files.

    It is the name itself or an end of it after a slash, in any case, with the slashes of either system, with
    or without its suffix, or the name of its folder. Where several are meant: those of the kind (of
    `contents.KINDS`), then those of just this name, in any case and then in this one.
    """
    meant = [entry for entry in known if entry.answers_to(name)]
    if len(meant) > 1 and kind is not None:
        meant = [entry for entry in meant if contents_of(entry.path).kind == kind] or meant
    if len(meant) > 1:
        meant = [entry for entry in meant if _alike(entry.name) == _alike(name)] or meant
    if len(meant) > 1:
        meant = [entry for entry in meant if entry.name == name] or meant
    return meant


def shortest_names(known: Sequence[ModelEntry]) -> list[str]:
    """For each entry the shortest end of its name that means it and nothing else among `known`."""
    ends = [_ends(entry) for entry in known]
    said = Counter(_alike(end) for each in ends for end in each)
    said.update({_alike(entry.name).rpartition("/")[0] for entry in known if "/" in entry.name})
    return [next((end for end in each if said[_alike(end)] == 1), each[-1]) for each in ends]


def _ends(entry: ModelEntry) -> list[str]:
    """ "styles/ink" -> ["ink", "styles/ink"]."""
    parts = entry.name.split("/")
    return ["/".join(parts[-count:]) for count in range(1, len(parts) + 1)]


def pick(
    name: str, known: Sequence[ModelEntry], roots: Sequence[Path], kind: str | None = None
) -> ModelEntry:
    """The one of `known` that is meant. Raises as `find` does. roots: for messages."""
    meant = meant_by(name, known, kind)
    if len(meant) == 1:
        return meant[0]
    if meant:
        listed = "".join(f"\n  {entry.name}  {entry.path}" for entry in meant)
        raise InvalidCheckpoint(
            f"'{name}' is the name of {len(meant)} models; say more of it, or a path:{listed}"
        )
    what = WORDS.get(kind or MODEL)
    pull = ", 'pochade models pull OWNER/NAME' fetches one" if what is None else ""
    raise InvalidCheckpoint(
        f"{'' if what is None else f'the {what} '}'{name}' does not exist; check the path. No"
        f" {what or 'model'} has that name{_near(name, known)}, in {', '.join(map(str, roots))}: 'pochade"
        f" models list' shows what is there{pull}"
    )


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(file.stat().st_size for file in files)


def weights_of(path: Path) -> int:
    """How many numbers the tensors of a file, or of all files in a folder, have. Other files have none."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(map(_weights, files))


# --- inside -----------------------------------------------------------------------------------------------


def _bases(root: Path) -> list[Path]:
    """The folders of a root to look through; one with two names, as letters' case may give it, once."""
    if (root / INDEX).is_file():
        return [root]
    known: dict[tuple[int, int], Path] = {}
    for layout in LAYOUTS:
        if (root / layout).is_dir():
            known.setdefault(_identity(root / layout), root / layout)
    return list(known.values()) or ([root] if root.is_dir() else [])


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """Files and diffusers folders below `folder`. above: the folders that led here."""
    try:
        if (folder / INDEX).is_file():
            yield folder
            return
        own = _identity(folder)
        if own in above or len(above) > MAX_DEPTH:
            return
        inside = sorted(os.scandir(folder), key=lambda each: each.name)
    except OSError:  # not ours to read
        return
    for each in inside:
        if each.name.startswith("."):
            continue
        if each.is_dir():
            yield from _walk(Path(each.path), above | {own})
        elif each.is_file() and Path(each.name).suffix.lower() in SUFFIXES:
            yield Path(each.path)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _name(path: Path, base: Path, root: Path) -> str:
    if path == base:
        return root.name
    inside = path.relative_to(base)
    for part in inside.parts:  # the library's cache: models--OWNER--NAME/snapshots/COMMIT
        if part.startswith("models--"):
            return part.removeprefix("models--").replace("--", "/")
    name = inside.as_posix()
    return name if path.is_dir() else name.removesuffix(path.suffix)


def _near(name: str, known: Sequence[ModelEntry]) -> str:
    said_as = [
        entry.name.rpartition("/")[0] if entry.path.stem in DIFFUSERS_NAMES else entry.name for entry in known
    ]
    names = {each.rpartition("/")[2].casefold(): each for each in said_as}
    names |= {each.casefold(): each for each in said_as}
    near = difflib.get_close_matches(name.casefold(), names, NEAR_NAMES)
    if not near:
        return ""
    said = ", ".join(f"'{names[each]}'" for each in dict.fromkeys(near))
    return f" (near it: {said})"


def _kept(contents: Contents) -> list[Any]:
    few = contents.few_steps
    return [contents.kind, contents.family, None if few is None else [few.kind, few.reason, vars(few.usual)]]


def _remembered(memory: Path) -> dict[str, Contents]:
    with suppress(OSError, ValueError):
        loaded = json.loads(memory.read_text("utf-8"))
        if isinstance(loaded, dict):
            found = {key: _read_back(about) for key, about in loaded.items()}
            return {key: contents for key, contents in found.items() if contents is not None}
    return {}


def _read_back(kept: object) -> Contents | None:
    """The inverse of `_kept`; None for what is damaged, or older."""
    match kept:
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
            usual = Defaults(steps=steps, cfg_scale=scale, sampler=sampler, schedule=schedule)
            return Contents(kind, family, FewSteps(kind=name, reason=reason, usual=usual))
    return None


def _weights(file: Path) -> int:
    try:
        return sum(math.prod(entry.shape) for entry in open_tensors(file).header.entries.values())
    except InvalidCheckpoint:
        return 0
