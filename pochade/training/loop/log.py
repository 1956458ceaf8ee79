"""The log `log.jsonl`: one JSON object per line, each with its step."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pochade.atomic import replacing, unwritable

NAME = "log.jsonl"


def append(folder: Path, entry: Mapping[str, Any]) -> None:
    """Add a line. Raises OutputError if the operating system refuses."""
    path = folder / NAME
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    except OSError as error:
        raise unwritable(path, error) from error


def cut(folder: Path, step: int) -> None:
    """Remove the lines of later steps, which will be repeated, and partial lines left by a kill."""
    path = folder / NAME
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if _step(line) <= step]
    if kept != lines:
        with replacing(path) as file:
            file.writelines(kept)


def _step(line: bytes) -> float:
    """The step of a complete line, else infinity."""
    try:
        return float(json.loads(line)["step"]) if line.endswith(b"\n") else float("inf")
    except (ValueError, TypeError, KeyError):
        return float("inf")
