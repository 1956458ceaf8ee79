"""Opens files of weights of any format, and the weights of a component with variants and shards."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from pochade.checkpoints import safetensors
from pochade.checkpoints.json_files import read_table
from pochade.checkpoints.keymaps import LazyTensors
from pochade.checkpoints.safetensors import TensorFile
from pochade.errors import InvalidCheckpoint

Array = npt.NDArray[Any]

GGUF = b"GGUF"
BRACE = 8
"""The offset of the JSON header in a safetensors file; the length before it may look like a pickle."""

BASE = r"(?:diffusion_pytorch_model|pytorch_model|model)"
VARIANT = r"(?:\.(?P<variant>[A-Za-z0-9_]+))?"
SUFFIXES = ("safetensors", "bin")
"""Suffixes of weight files; pickled files, the second, are only used if there are no others."""


@dataclass(frozen=True, eq=False)
class Weights:
    """The tensors of a component by their names in its files."""

    tensors: Mapping[str, Array]
    files: tuple[TensorFile, ...]


def open_tensors(path: Path | str) -> TensorFile:
    """Map a safetensors, torch or GGUF file. The format is detected from the content, not from the suffix.

    Raises InvalidCheckpoint if the format is unknown or the file is damaged.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            beginning = file.read(BRACE + 1)
    except OSError:
        return safetensors.read(path)  # raises with the reason
    if beginning.startswith(GGUF):
        from pochade.checkpoints.gguf import read_gguf

        return read_gguf(path)
    if beginning[BRACE:] != b"{":
        from pochade.checkpoints.torch_files import is_torch_file, read_torch_file

        if is_torch_file(beginning):
            return read_torch_file(path)
    return safetensors.read(path)


def open_weights(folder: Path, variant: str | None = None) -> Weights:
    """Map the weights in a component's folder.

    variant: the part before `.safetensors`, such as "fp16". None prefers the plain file, then "fp16", then
        the only variant.

    Raises InvalidCheckpoint if no file matches, or if one is damaged.
    """
    path = find_weights(folder, variant)
    if path.suffix == ".json":
        return _open_shards(path)
    file = open_tensors(path)
    return Weights(file, (file,))


def find_weights(folder: Path, variant: str | None = None) -> Path:
    """Return the weight file or index of shards that `open_weights` opens. Raises as it does."""
    names = sorted(path.name for path in folder.iterdir())
    found = next((found for suffix in SUFFIXES if (found := variants_of(names, suffix))), {})
    wanted = preferred(found) if variant is None else variant
    if wanted in found:
        return folder / found[wanted]
    if found:
        available = ", ".join(repr(name) if name else "the plain one" for name in found)
        raise InvalidCheckpoint(
            f"'{folder}' holds no weights of the variant {wanted!r}; available: {available}"
        )
    raise InvalidCheckpoint(
        f"'{folder}' holds no weights; it needs diffusion_pytorch_model.safetensors or model.safetensors,"
        " so download the model again"
    )


def preferred(found: Mapping[str | None, str]) -> str | None:
    """Return the variant to use by default."""
    if None in found or not found:
        return None
    return "fp16" if "fp16" in found or len(found) > 1 else next(iter(found))


def variants_of(names: Sequence[str], suffix: str) -> dict[str | None, str]:
    """Return variant -> file or index of shards. A single file is preferred to shards of the same variant.

    names: of the files in a component's folder, in order. suffix: one of SUFFIXES.
    """
    found: dict[str | None, str] = {}
    # diffusers and transformers have used two positions for the variant in an index's name.
    indices = (rf"{BASE}\.{suffix}\.index{VARIANT}\.json", rf"{BASE}\.{suffix}{VARIANT}\.index\.json")
    for name in names:
        for pattern in indices:
            index = re.fullmatch(pattern, name)
            if index:
                found.setdefault(index["variant"], name)
    for name in names:
        single = re.fullmatch(rf"{BASE}{VARIANT}\.{suffix}", name)
        if single and found.get(single["variant"], name).endswith(".json"):
            found[single["variant"]] = name
        elif single:
            found.setdefault(single["variant"], name)
    return found


def shard_names(names: Sequence[str], variant: str | None, suffix: str) -> list[str]:
    """Return the shards of a variant among `names`."""
    before = rf"{BASE}{VARIANT}-\d+-of-\d+\.{suffix}"
    after = rf"{BASE}-\d+-of-\d+{VARIANT}\.{suffix}"
    matches = [(name, re.fullmatch(before, name) or re.fullmatch(after, name)) for name in names]
    return [name for name, match in matches if match is not None and match["variant"] == variant]


def _open_shards(index: Path) -> Weights:
    """All tensors of all shards that an index names."""
    placed = read_table(index).get("weight_map")
    if not isinstance(placed, dict) or not all(isinstance(shard, str) for shard in placed.values()):
        raise InvalidCheckpoint(f"'{index}' has no 'weight_map' from tensors to shards; download it again")
    shards: dict[str, TensorFile] = {}
    for shard in sorted(set(placed.values())):
        _check_shard_name(index, shard)
        if not (index.parent / shard).is_file():
            raise InvalidCheckpoint(
                f"the shard '{shard}' that '{index}' names is missing; download it into the same folder"
            )
        shards[shard] = open_tensors(index.parent / shard)
    for name, shard in placed.items():
        if name not in shards[shard]:
            raise InvalidCheckpoint(
                f"'{index}' places tensor {name!r} in '{shard}', which does not hold it;"
                " the files are from different downloads, download them all again"
            )
    makers: dict[str, Callable[[], Array]] = {}
    for shard, file in shards.items():
        for name in file:
            if name in makers:
                raise InvalidCheckpoint(f"tensor {name!r} is in '{shard}' and in another shard of '{index}'")
            makers[name] = _maker(file, name)
    return Weights(LazyTensors(makers), tuple(shards.values()))


def _check_shard_name(index: Path, shard: str) -> None:
    """An index is untrusted: it may only name files in its own folder."""
    if re.fullmatch(rf"[\w.\-]+\.(?:{'|'.join(SUFFIXES)})", shard) is None:
        raise InvalidCheckpoint(
            f"'{index}' names the shard {shard!r}; a shard is a .safetensors file in the same folder"
        )


def _maker(file: TensorFile, name: str) -> Callable[[], Array]:
    return lambda: file[name]
