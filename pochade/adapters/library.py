"""Folders of adapters and embeddings, whose files prompts refer to by name."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from pochade.adapters.files import COMPONENTS, DIFFUSERS_WEIGHTS, PEFT_WEIGHTS
from pochade.checkpoints.library import ModelEntry, entries_in, matching_entries, shortest_names
from pochade.errors import InvalidRequest

NAMELESS = ("learned_embeds", PEFT_WEIGHTS, DIFFUSERS_WEIGHTS)
"""The file name that other programs always use; such a file has its folder's name."""

SHOWN = 5


def stem(path: Path) -> str:
    """Return a file's name in prompts: its name without the suffix, or its folder's name."""
    return path.resolve().parent.name if path.stem in NAMELESS else path.stem


def named_in(places: Sequence[Path], what: str) -> list[ModelEntry]:
    """List the files in folders and their subfolders. An adapter of PEFT is its folder.

    A folder with one PEFT folder per component is one entry.

    what: for messages. Raises InvalidRequest if a folder does not exist.
    """
    for place in places:
        if not place.is_dir():
            raise InvalidRequest(f"the folder of {what} '{place}' does not exist")
    called = [_called(entry) for entry in entries_in(places)]
    return list({entry.path: entry for entry in called}.values())


def names(folders: Sequence[Path], what: str) -> Mapping[str, list[Path]]:
    """Return name without folders -> the files of that name. Raises as `named_in` does."""
    found: dict[str, list[Path]] = {}
    for entry in named_in(folders, what):
        found.setdefault(entry.name.rpartition("/")[2], []).append(entry.path)
    return found


def find(folders: Sequence[Path], name: str, what: str) -> Path:
    """Return the file with a name, by the rule for all names (`checkpoints.library.matching_entries`).

    Names are only compared, so they cannot leave the folders. Raises InvalidRequest for an unknown name,
    listing similar ones, or for an ambiguous name.
    """
    return pick_named(named_in(folders, what), folders, name, what).path


def pick_named(known: Sequence[ModelEntry], folders: Sequence[Path], name: str, what: str) -> ModelEntry:
    """Return the only entry of `known` that matches. folders: for messages. Raises as `find` does."""
    matches = matching_entries(name, known)
    if len(matches) == 1:
        return matches[0]
    if matches:
        paths = ", ".join(f"'{entry.path}'" for entry in matches)
        more = " or ".join(f"'{entry.name}'" for entry in matches[:SHOWN])
        raise InvalidRequest(f"the name '{name}' matches {paths}; use {more}, or rename all but one")
    short_names = shortest_names(known)
    similar = get_close_matches(name, short_names, SHOWN, cutoff=0.4) or sorted(short_names)[:SHOWN]
    listed = ", ".join(f"'{each}'" for each in similar) or "the folder holds none"
    where = " or ".join(f"'{folder}'" for folder in folders)
    raise InvalidRequest(f"there is no '{name}' in the folder of {what} {where}; similar: {listed}")


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
