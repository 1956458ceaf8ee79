"""Reads the JSON files of models."""

import json
from pathlib import Path
from typing import Any

from pochade.errors import InvalidCheckpoint

MAX_BYTES = 64_000_000


def read_table(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file. Raises InvalidCheckpoint if the file is missing or not a JSON
    object."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidCheckpoint(
                f"'{path}' has more than {MAX_BYTES:,} bytes, which is too large for a model's JSON file"
            )
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidCheckpoint(f"'{path}' is missing; download all files of the model") from error
    except OSError as error:
        raise InvalidCheckpoint(f"'{path}' cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidCheckpoint(f"'{path}' is not JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise InvalidCheckpoint(f"'{path}' contains a {type(content).__name__} instead of a JSON object")
    return content
