"""What a run was begun with and goes on with: another word, other pictures or another model are another run.

The state alone does not tell: the vectors of one word fit where those of another are learned, and so they
would be taken for what was learned of it.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from pochade.atomic import replacing
from pochade.errors import InvalidCheckpoint, InvalidRequest
from pochade.training.loop import state

CONTENTS = {"model": "another model", "pictures": "other pictures or captions"}
"""What is kept as a digest, which says nothing to a person, and how a message calls it."""


def check(folder: Path, belongs: Mapping[str, str]) -> None:
    """Raise InvalidRequest if the folder holds a run that was begun with something else.

    belongs: name -> a word, or the digest of a content. A run of a version that kept none of it goes on.
    Raises InvalidCheckpoint if the file is damaged.
    """
    path = folder / state.RUN
    if not state.exists(folder) or not path.exists():
        return
    try:
        began = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InvalidCheckpoint(
            f"'{path}' is damaged ({error}); delete it if the run is to go on with what is given now"
        ) from error
    differences = [
        CONTENTS.get(name, f"{name} '{began[name]}', not '{value}'")
        for name, value in belongs.items()
        if name in began and began[name] != value
    ]
    if differences:
        raise InvalidRequest(
            f"the run in '{folder}' was begun with {', '.join(differences)}; go on with what it was begun"
            " with, or choose another folder"
        )


def keep(folder: Path, belongs: Mapping[str, str]) -> None:
    """Write it beside the state. Raises OutputError if the operating system refuses."""
    with replacing(folder / state.RUN) as file:
        file.write(json.dumps(dict(belongs), indent=1, ensure_ascii=False).encode())
