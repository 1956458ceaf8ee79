"""Records what a run was started with, so that it is not resumed with another word, model or pictures.

The state alone cannot tell: the vectors of one word have the shape of another's, so they would be taken for
that word's training so far.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from pochade.atomic import replacing
from pochade.errors import InvalidCheckpoint, InvalidRequest
from pochade.training.loop import state

CONTENTS = {"model": "another model", "pictures": "other pictures or captions"}
"""Entries that are stored as digests, with the words that an error message uses for them."""


def check(folder: Path, provenance: Mapping[str, str]) -> None:
    """Raise InvalidRequest if the folder holds a run that was started with something else.

    provenance: name -> a value, or the digest of some content. A run without a record is resumed.
    Raises InvalidCheckpoint if the file is damaged.
    """
    path = folder / state.RUN
    if not state.exists(folder) or not path.exists():
        return
    try:
        began = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InvalidCheckpoint(
            f"'{path}' is damaged ({error}); delete it to resume the run with the current settings"
        ) from error
    differences = [
        CONTENTS.get(name, f"{name} '{began[name]}', not '{value}'")
        for name, value in provenance.items()
        if name in began and began[name] != value
    ]
    if differences:
        raise InvalidRequest(
            f"the run in '{folder}' was started with {', '.join(differences)}; resume it with the same, or"
            " choose another folder"
        )


def write(folder: Path, provenance: Mapping[str, str]) -> None:
    """Write the record beside the state. Raises OutputError if the operating system refuses."""
    with replacing(folder / state.RUN) as file:
        file.write(json.dumps(dict(provenance), indent=1, ensure_ascii=False).encode())
