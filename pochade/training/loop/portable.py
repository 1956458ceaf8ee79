"""A portable copy of a run: the averaged weights in half precision, in files below 16 MB.

The files are named `travel-1-of-4.safetensors` and so on; together they take an eighth of the whole state. A
tensor that does not fit into the rest of a file is split between its rows: `name@first row`.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pochade.checkpoints import safetensors
from pochade.checkpoints.safetensors import Array
from pochade.errors import InvalidCheckpoint, OutputError

NAME = "travel-{}-of-{}.safetensors"
FILE_BYTES = 15_000_000  # of weights; the header comes on top


def pack(weights: Mapping[str, Array], step: int, output: Path) -> list[Path]:
    """Write the files and remove those of an earlier set. Returns their paths in order.

    Raises OutputError if a weight is too large for half precision, or if the system refuses to write.
    """
    parts = _files_of(weights)
    output.mkdir(parents=True, exist_ok=True)
    files = [output / NAME.format(number, len(parts)) for number in range(1, len(parts) + 1)]
    for path, part in zip(files, parts, strict=True):
        safetensors.write(path, part, {"step": str(step)})
    for other in set(_files(output)) - set(files):
        other.unlink()
    return files


def unpack(folder: Path) -> tuple[int, dict[str, Array]] | None:
    """The step and the weights (f16) of the files in a folder; None if there are none.

    Raises InvalidCheckpoint if one is damaged, or if they do not make a set.
    """
    paths = _files(folder)
    if not paths:
        return None
    total = re.findall(r"\d+", paths[0].name)[-1]
    expected = {folder / NAME.format(number, total) for number in range(1, int(total) + 1)}
    files = {path: safetensors.read(path) for path in paths}
    steps = {file.metadata.get("step", "unknown") for file in files.values()}
    if expected != files.keys() or len(steps) > 1 or not min(steps).isdecimal():
        missing = ", ".join(sorted(path.name for path in expected - files.keys())) or "none"
        raise InvalidCheckpoint(
            f"the {len(files)} portable files in '{folder}' do not make a set (missing: {missing}; steps:"
            f" {', '.join(sorted(steps))}); copy all files of one set, and no other"
        )
    rows: dict[str, list[tuple[int, Array]]] = {}
    for path, file in files.items():
        for label, array in file.items():
            name, _, first = label.rpartition("@")
            if not first.isdecimal():
                raise InvalidCheckpoint(f"'{path}' has a tensor '{label}' without its row; copy it again")
            rows.setdefault(name, []).append((int(first), array))
    return int(min(steps)), {
        name: np.concatenate([array for _, array in sorted(parts, key=lambda part: part[0])])
        for name, parts in rows.items()
    }


def _files(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.glob("travel-*") if re.fullmatch(NAME.format(r"\d+", r"\d+"), path.name)
    )


def _files_of(weights: Mapping[str, Array]) -> list[dict[str, Array]]:
    parts: list[dict[str, Array]] = [{}]
    room = FILE_BYTES
    for name, array in weights.items():
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if not np.isfinite(half).all():
            raise OutputError(
                f"the averaged '{name}' goes up to {np.abs(array).max():g}, beyond half precision; copy the"
                " whole state instead"
            )
        row_bytes, first = half[:1].nbytes, 0
        while first < len(half):
            if room < row_bytes and parts[-1]:
                parts.append({})
                room = FILE_BYTES
            count = min(len(half) - first, max(1, room // row_bytes))
            parts[-1][f"{name}@{first}"] = half[first : first + count]
            first += count
            room -= count * row_bytes
    return parts
