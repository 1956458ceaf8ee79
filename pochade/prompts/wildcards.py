"""Wildcards: __animal__ in a prompt is replaced by a line of animal.txt in a folder."""

import re
from collections.abc import Callable, Sequence
from os.path import isfile
from pathlib import Path

from pochade.errors import InvalidRequest

Read = Callable[[str], Sequence[str]]
"""Returns the phrases of a wildcard by its name. Raises InvalidRequest if the name is unknown."""

NAME = re.compile(r"[\w\-. ]+(?:/[\w\-. ]+){0,20}")
"""Excludes absolute paths, backslashes and drives, so that the path stays below the folder on any system."""

MAX_BYTES = 16_000_000
SHOWN = 20


def no_wildcards(name: str) -> Sequence[str]:
    """Raise InvalidRequest: the reader of wildcards if no folder was given."""
    raise InvalidRequest(
        f"the prompt contains the wildcard '__{name}__', but no folder of wildcards was given (--wildcards"
        rf" DIR); to draw the word itself, write '\__{name}__'"
    )


def folder_of_wildcards(folder: Path | str) -> Read:
    """Return a reader of `name` from folder/name.txt and of `part/name` from folder/part/name.txt.

    Each line is a phrase; empty lines and lines that begin with # are skipped. Files are read on demand. No
    name can leave the folder, neither by ".." nor by a link.

    Raises InvalidRequest if the folder does not exist; the reader raises it for a missing or invalid file.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InvalidRequest(f"the folder of wildcards '{folder}' does not exist")
    root = root.resolve()

    def read(name: str) -> Sequence[str]:
        # Prompts are untrusted: the path is checked after resolving links.
        path = next((path for path in _files(root, name) if isfile(path)), root / f"{name}.txt")
        if not NAME.fullmatch(name) or ".." in name.split("/") or not _within(path, root):
            raise InvalidRequest(f"the wildcard '__{name}__' is not the name of a file inside '{root.name}'")
        if not isfile(path):  # also false for a name that is too long
            raise InvalidRequest(f"the wildcard '__{name}__' is unknown; {_known_names(root)}")
        return _phrases(path, name)

    return read


def _files(root: Path, name: str) -> list[Path]:
    """Return the possible files: programs on Windows also write ".TXT"."""
    return [root / f"{name}.txt", root / f"{name}.TXT"] if NAME.fullmatch(name) else []


def _within(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a symlink loop; a RuntimeError before Python 3.13
        return False


def _phrases(path: Path, name: str) -> list[str]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = "" if len(content) > MAX_BYTES else content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the wildcard '__{name}__': '{path.name}' is not text: {error}") from error
    if len(content) > MAX_BYTES:
        raise InvalidRequest(f"the wildcard '__{name}__': '{path.name}' has more than {MAX_BYTES:,} bytes")
    lines = [line.strip() for line in text.splitlines()]
    phrases = [line for line in lines if line and not line.startswith("#")]
    if not phrases:
        raise InvalidRequest(f"the wildcard '__{name}__': '{path.name}' has no phrases; write one on a line")
    return phrases


def _known_names(root: Path) -> str:
    names = sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.[tT][xX][tT]"))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"one of: {', '.join(names[:SHOWN])}{more}" if names else f"'{root.name}' holds no .txt files"
