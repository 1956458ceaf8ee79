"""Folders of small files that prompts call by name."""

from collections.abc import Mapping
from difflib import get_close_matches
from os import walk
from pathlib import Path

from pochade.adapters.files import DIFFUSERS_WEIGHTS, PEFT_WEIGHTS
from pochade.errors import InvalidRequest

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")

NAMELESS = ("learned_embeds", Path(PEFT_WEIGHTS).stem, Path(DIFFUSERS_WEIGHTS).stem)
"""What other programs call every file; it goes by its folder's name."""

SHOWN = 5


def stem(path: Path) -> str:
    """What a file is called in a prompt: its name without the suffix, or its folder's name."""
    return path.resolve().parent.name if path.stem in NAMELESS else path.stem


def names(folder: Path, what: str) -> Mapping[str, list[Path]]:
    """Name -> the files of that name in the folder and those below it, PEFT's as their folders.

    what: for messages. Links to folders are not followed. Raises InvalidRequest if there is no such folder.
    """
    if not folder.is_dir():
        raise InvalidRequest(f"the folder of {what} '{folder}' does not exist")
    found: dict[str, list[Path]] = {}
    for place, folders, files in walk(folder):
        folders.sort()
        for file in sorted(files):
            path = Path(place, file)
            if path.suffix.lower() in SUFFIXES:
                known = found.setdefault(stem(path), [])
                known.append(path.parent if file == PEFT_WEIGHTS else path)
    return found


def find(folder: Path, name: str, what: str) -> Path:
    """The file that a name stands for. A name is only looked up: it cannot lead out of the folder.

    Raises InvalidRequest for a name that is unknown, listing those that are like it, or that two files have.
    """
    known = names(folder, what)
    found = known.get(name, [])
    if len(found) == 1:
        return found[0]
    if found:
        paths = ", ".join(f"'{path.relative_to(folder)}'" for path in found)
        raise InvalidRequest(f"the name '{name}' stands for {paths}; rename all but one")
    near = get_close_matches(name, known, SHOWN, cutoff=0.4) or sorted(known)[:SHOWN]
    listed = ", ".join(f"'{each}'" for each in near) or "the folder holds none"
    raise InvalidRequest(f"there is no '{name}' in the folder of {what} '{folder}'; near it: {listed}")
