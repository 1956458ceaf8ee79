"""Folders of small files that prompts call by name."""

from collections.abc import Mapping, Sequence
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


def names(folders: Sequence[Path], what: str) -> Mapping[str, list[Path]]:
    """Name -> the files of that name in the folders and those below them, PEFT's as their folders.

    what: for messages. Links to folders are not followed. Raises InvalidRequest if a folder does not exist.
    """
    found: dict[str, list[Path]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InvalidRequest(f"the folder of {what} '{folder}' does not exist")
        for place, below, files in walk(folder):
            below.sort()
            for file in sorted(files):
                path = Path(place, file)
                if path.suffix.lower() in SUFFIXES:
                    known = found.setdefault(stem(path), [])
                    known.append(path.parent if file == PEFT_WEIGHTS else path)
    return found


def find(folders: Sequence[Path], name: str, what: str) -> Path:
    """The file that a name stands for. A name is only looked up: it cannot lead out of the folders.

    Raises InvalidRequest for a name that is unknown, listing those that are like it, or that two files have.
    """
    known = names(folders, what)
    found = known.get(name, [])
    if len(found) == 1:
        return found[0]
    if found:
        paths = ", ".join(f"'{path}'" for path in found)
        raise InvalidRequest(f"the name '{name}' stands for {paths}; rename all but one")
    near = get_close_matches(name, known, SHOWN, cutoff=0.4) or sorted(known)[:SHOWN]
    listed = ", ".join(f"'{each}'" for each in near) or "the folder holds none"
    where = " or ".join(f"'{folder}'" for folder in folders)
    raise InvalidRequest(f"there is no '{name}' in the folder of {what} {where}; near it: {listed}")
