"""Folders of small files that prompts call by name."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from pochade.adapters.files import COMPONENTS, DIFFUSERS_WEIGHTS, PEFT_WEIGHTS
from pochade.checkpoints.library import ModelEntry, entries_in, meant_by, shortest_names
from pochade.errors import InvalidRequest

NAMELESS = ("learned_embeds", PEFT_WEIGHTS, DIFFUSERS_WEIGHTS)
"""What other programs call every file; it goes by its folder's name."""

SHOWN = 5


def stem(path: Path) -> str:
    """What a file is called in a prompt: its name without the suffix, or its folder's name."""
    return path.resolve().parent.name if path.stem in NAMELESS else path.stem


def named_in(places: Sequence[Path], what: str) -> list[ModelEntry]:
    """The files in folders and those below them; what is nameless goes by its folder, PEFT's is its folder.

    Folders of PEFT for each component of a model, side by side, are one entry: the folder that they are in.

    what: for messages. Raises InvalidRequest if a folder does not exist.
    """
    for place in places:
        if not place.is_dir():
            raise InvalidRequest(f"the folder of {what} '{place}' does not exist")
    called = [_called(entry) for entry in entries_in(places)]
    return list({entry.path: entry for entry in called}.values())


def names(folders: Sequence[Path], what: str) -> Mapping[str, list[Path]]:
    """Name -> the files of that name, without the folders that they are in. Raises as `named_in` does."""
    found: dict[str, list[Path]] = {}
    for entry in named_in(folders, what):
        found.setdefault(entry.name.rpartition("/")[2], []).append(entry.path)
    return found


def find(folders: Sequence[Path], name: str, what: str) -> Path:
    """The file that a name stands for, by the rule of all names (`checkpoints.library.meant_by`).

    A name is only compared: it cannot lead out of the folders. Raises InvalidRequest for one that is unknown,
    listing those that are like it, or that several files have.
    """
    return pick_named(named_in(folders, what), folders, name, what).path


def pick_named(known: Sequence[ModelEntry], folders: Sequence[Path], name: str, what: str) -> ModelEntry:
    """The one of `known` that is meant. folders: for messages. Raises as `find` does."""
    meant = meant_by(name, known)
    if len(meant) == 1:
        return meant[0]
    if meant:
        paths = ", ".join(f"'{entry.path}'" for entry in meant)
        more = " or ".join(f"'{entry.name}'" for entry in meant[:SHOWN])
        raise InvalidRequest(f"the name '{name}' stands for {paths}; say {more}, or rename all but one")
    said = shortest_names(known)
    near = get_close_matches(name, said, SHOWN, cutoff=0.4) or sorted(said)[:SHOWN]
    listed = ", ".join(f"'{each}'" for each in near) or "the folder holds none"
    where = " or ".join(f"'{folder}'" for folder in folders)
    raise InvalidRequest(f"there is no '{name}' in the folder of {what} {where}; near it: {listed}")


def _called(entry: ModelEntry) -> ModelEntry:
    if entry.path.stem not in NAMELESS or not entry.path.is_file():
        return entry
    if entry.path.stem != PEFT_WEIGHTS:
        return ModelEntry(entry.name.rpartition("/")[0] or stem(entry.path), entry.path, entry.root)
    folder = entry.path.parent
    if folder.name in COMPONENTS and folder != entry.root:
        folder = folder.parent
    inside = folder.relative_to(entry.root).as_posix()
    return ModelEntry(folder.resolve().name if inside == "." else inside, folder, entry.root)
